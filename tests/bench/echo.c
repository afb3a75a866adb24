/* The least that a UDP server can do: recvmmsg, sendmmsg, nothing between. `echo PORT [HOLD]`, until it is ended. Where HOLD is
 * named it sleeps so many microseconds in between. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, OCTETS = 512 };

int main(int argc, char **argv)
{
    static char room[BATCH][OCTETS];
    static struct sockaddr_in peers[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr heads[BATCH];
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timespec hold = { .tv_nsec = argc > 2 ? atol(argv[2]) * 1000 : 0 };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (argc < 2)
        return 2;
    here.sin_port = htons((unsigned short)atoi(argv[1]));
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here))
        return 1;
    for (;;) {
        int got, i;
        for (i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec) { room[i], OCTETS };
            memset(&heads[i], 0, sizeof heads[i]);
            heads[i].msg_hdr = (struct msghdr) {
                .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &parts[i], .msg_iovlen = 1
            };
        }
        got = recvmmsg(fd, heads, BATCH, MSG_WAITFORONE, 0);
        if (got < 0)
            return 1;
        for (i = 0; i < got; i++)
            parts[i].iov_len = heads[i].msg_len;
        if (hold.tv_nsec)
            nanosleep(&hold, NULL);
        sendmmsg(fd, heads, (unsigned)got, 0);
    }
}
