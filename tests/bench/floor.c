/* The least milter: it gives the answer to the negotiation that it is told, inserts one field into each message, and
   accepts it. `floor PORT|PATH TERMS`, until it is ended; TERMS is that answer in hexadecimal, as the filter gave it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ROOM = 1 << 17, EVENTS = 64, SKIP = 0x400 };

struct connection {
    int fd;
    size_t have;
    uint32_t protocol;
    unsigned char room[ROOM];
};

static const char FIELD[] = "\0\0\0\0Authentication-Results\0 mx.floor.test; none";
/* Commands, and the bit of the protocol by which each gets no answer; 'U' is not sent, by our terms. */
static const struct { char command; uint32_t silent; } ANSWERED[] = {
    { 'C', 0x1000 }, { 'H', 0x2000 }, { 'M', 0x4000 }, { 'R', 0x8000 }, { 'T', 0x10000 },
    { 'L', 0x80 }, { 'N', 0x40000 }, { 'B', 0x80000 }, { 'U', 0x20000 },
};
static unsigned char terms[2048], out[4096];
static size_t terms_length, out_length;
static int over_tcp;

static uint32_t word(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put_word(unsigned char *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, 4);
}

static int flush(int fd)
{
    ssize_t sent = out_length ? write(fd, out, out_length) : 0;
    int whole = sent == (ssize_t)out_length;
    out_length = 0;
    return whole;
}

static int say(int fd, char command, const void *octets, size_t length)
{
    if (out_length + 5 + length > sizeof out && !flush(fd))
        return 0;
    put_word(out + out_length, (uint32_t)length + 1);
    out[out_length + 4] = (unsigned char)command;
    memcpy(out + out_length + 5, octets, length);
    out_length += 5 + length;
    return 1;
}

/* Takes of the terms what the MTA offers. */
static int negotiate(struct connection *c, const unsigned char *offer, size_t length)
{
    unsigned char taken[sizeof terms];
    size_t i;

    if (length < 12)
        return 0;
    memcpy(taken, terms, terms_length);
    for (i = 4; i < 12; i += 4)
        put_word(taken + i, word(taken + i) & word(offer + i));
    c->protocol = word(taken + 8);
    return say(c->fd, 'O', taken, terms_length);
}

/* One frame; 0 ends the connection. */
static int take(struct connection *c, char command, const unsigned char *octets, size_t length)
{
    size_t i;

    if (command == 'O')
        return negotiate(c, octets, length);
    if (command == 'Q')
        return 0;
    if (command == 'E')
        return say(c->fd, 'i', FIELD, sizeof FIELD) && say(c->fd, 'a', "", 0);
    for (i = 0; i < sizeof ANSWERED / sizeof *ANSWERED; i++)
        if (ANSWERED[i].command == command && !(c->protocol & ANSWERED[i].silent))
            return say(c->fd, command == 'B' && c->protocol & SKIP ? 's' : 'c', "", 0);
    return 1;
}

/* What has come, whole frames of it; the answers go out in one write. */
static int serve(struct connection *c)
{
    ssize_t got = read(c->fd, c->room + c->have, ROOM - c->have);
    size_t at = 0;
    int on = 1;

    if (got <= 0)
        return 0;
    /* As the filter does: where no answer is due, a delayed ACK has Nagle's algorithm hold back Postfix's next piece. */
    if (over_tcp)
        setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    c->have += (size_t)got;
    while (c->have - at >= 5) {
        size_t length = word(c->room + at);
        if (length < 1 || length > ROOM - 4)
            return 0;
        if (c->have - at < 4 + length)
            break;
        if (!take(c, (char)c->room[at + 4], c->room + at + 5, length - 1))
            return 0;
        at += 4 + length;
    }
    c->have -= at;
    memmove(c->room, c->room + at, c->have);
    return flush(c->fd);
}

static int listen_at(const char *where)
{
    struct sockaddr_in port = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_un path = { .sun_family = AF_UNIX };
    int on = 1, fd;

    over_tcp = where[0] != '/';
    fd = socket(over_tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    port.sin_port = htons((unsigned short)atoi(where));
    strncpy(path.sun_path, where, sizeof path.sun_path - 1);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (over_tcp ? bind(fd, (struct sockaddr *)&port, sizeof port)
                 : bind(fd, (struct sockaddr *)&path, sizeof path) || chmod(where, 0666))
        return -1;
    return listen(fd, 128) ? -1 : fd;
}

int main(int argc, char **argv)
{
    struct epoll_event event = { .events = EPOLLIN }, events[EVENTS];
    int listener, on = 1, epoll = epoll_create1(0);
    unsigned octet;

    if (argc < 3 || (listener = listen_at(argv[1])) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        return 1;
    while (terms_length < sizeof terms && sscanf(argv[2] + 2 * terms_length, "%2x", &octet) == 1)
        terms[terms_length++] = (unsigned char)octet;
    if (terms_length < 12)
        return 2;
    for (;;) {
        int i, count = epoll_wait(epoll, events, EVENTS, -1);
        for (i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c && !serve(c)) {
                out_length = 0;
                close(c->fd);
                free(c);
            }
            if (c)
                continue;
            if (!(c = malloc(sizeof *c)))
                return 3;
            c->fd = accept(listener, NULL, NULL);
            c->have = 0;
            c->protocol = 0;
            setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            event.data.ptr = c;
            if (c->fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event))
                free(c);
        }
    }
}
