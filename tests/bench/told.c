/* Whether the time of an answer tells that another process was asked for it, although it leaves at a fixed time. A client, a
 * server that answers 2 ms after each question, and a reader that works for 200 us, are processes of their own; the server asks the
 * reader for every other question. `told ROUNDS HOW CLIENT SERVER READER [SPIN]`: the three are the processors that they may
 * use, -1 for all. HOW: `bell`, the reader's answer wakes the server; `late`, the server looks at it when the time is there;
 * `all`, the reader is asked for all questions. The server spins for the last SPIN microseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HOLD = 2000, WORK = 200, PART = 100 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void sleep_until(double at)
{
    struct timespec t = { .tv_sec = (time_t)(at / 1e6) };
    t.tv_nsec = (long)((at - t.tv_sec * 1e6) * 1e3);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void pin(const char *processor)
{
    cpu_set_t set;
    if (atoi(processor) < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(atoi(processor), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int order(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* How probable it is that one of the first is greater than one of the second, ties counting half. */
static double told_apart(double *first, double *second, int count)
{
    double sum = 0;
    int i, below = 0, end;
    qsort(first, count, sizeof *first, order);
    qsort(second, count, sizeof *second, order);
    for (i = 0; i < count; i++) {
        while (below < count && second[below] < first[i])
            below++;
        for (end = below; end < count && second[end] == first[i]; end++)
            ;
        sum += below + (end - below) / 2.0;
    }
    return sum / count / count;
}

static void read_for_others(int fd)
{
    char c;
    while (read(fd, &c, 1) == 1) {
        double end = now() + WORK;
        while (now() < end)
            ;
        if (write(fd, &c, 1) != 1)
            break;
    }
    _exit(0);
}

static void serve(int fd, int reader, const char *how, double spin)
{
    char question, c;
    for (;;) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        double at;
        int asks;
        if (recvfrom(fd, &question, 1, 0, (struct sockaddr *)&peer, &length) != 1)
            _exit(1);
        at = now() + HOLD;
        asks = question == 'a' || !strcmp(how, "all");
        if (asks && write(reader, &question, 1) != 1)
            _exit(1);
        if (asks && !strcmp(how, "bell") && read(reader, &c, 1) != 1)
            _exit(1);
        sleep_until(at - spin);
        if (asks && strcmp(how, "bell") && read(reader, &c, 1) != 1)
            _exit(1);
        while (now() < at)
            ;
        sendto(fd, &question, 1, 0, (struct sockaddr *)&peer, length);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof here;
    int rounds = argc > 5 ? atoi(argv[1]) / PART * PART : 0, both[2], i, which, counts[2] = { 0, 0 };
    int fd = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
    double *times[2], *medians[2], one;
    pid_t server, reader;

    if (rounds < PART || bind(fd, (struct sockaddr *)&here, sizeof here) || socketpair(AF_UNIX, SOCK_STREAM, 0, both)
        || getsockname(fd, (struct sockaddr *)&here, &length) || connect(client, (struct sockaddr *)&here, sizeof here))
        return 2;
    prctl(PR_SET_TIMERSLACK, 1);
    if (!(reader = fork())) {
        pin(argv[5]);
        read_for_others(both[1]);
    }
    if (!(server = fork())) {
        pin(argv[4]);
        serve(fd, both[0], argv[2], argc > 6 ? atoi(argv[6]) : 0);
    }
    pin(argv[3]);
    for (which = 0; which < 2; which++) {
        times[which] = calloc(rounds, sizeof(double));
        medians[which] = calloc(rounds / PART, sizeof(double));
    }
    for (i = 0; i < 2 * rounds; i++) {
        char word = "na"[which = (i + i / 2) % 2];
        double begin = now();
        if (send(client, &word, 1, 0) != 1 || recv(client, &word, 1, 0) != 1)
            return 1;
        times[which][counts[which]++] = now() - begin;
    }
    kill(server, SIGKILL);
    kill(reader, SIGKILL);
    for (which = 0; which < 2; which++)
        for (i = 0; i < rounds / PART; i++) {
            qsort(times[which] + i * PART, PART, sizeof(double), order);
            medians[which][i] = times[which][i * PART + PART / 2];
        }
    one = told_apart(times[1], times[0], rounds);
    printf("%s, client %s, server %s, reader %s: by one %.3f, by %d %.3f; medians %.1f us not asked, %.1f asked\n", argv[2],
           argv[3], argv[4], argv[5], one, PART, told_apart(medians[1], medians[0], rounds / PART), times[0][rounds / 2],
           times[1][rounds / 2]);
    return 0;
}
