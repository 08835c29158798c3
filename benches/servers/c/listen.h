/* What the servers in C have in common: where they listen, and how they say so.
 * The contract is written down in ../src/lib.rs. */
#ifndef LISTEN_H
#define LISTEN_H

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, BACKLOG = 4096 };

static void check(bool good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

/* 127.0.0.1:PORT from the command line; without one, a free port. */
static struct sockaddr_in listening_address(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (argc > 1) {
        char host[INET_ADDRSTRLEN];
        unsigned port;
        check(sscanf(argv[1], "%15[0-9.]:%u", host, &port) == 2, "address");
        check(inet_pton(AF_INET, host, &address.sin_addr) == 1, "address");
        address.sin_port = htons((unsigned short)port);
    }
    return address;
}

/* A non-blocking listener, and the line that tells of it. */
static int listening_socket(int argc, char **argv)
{
    struct sockaddr_in address = listening_address(argc, argv);
    socklen_t length = sizeof address;
    int on = 1;
    signal(SIGPIPE, SIG_IGN);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(fd >= 0, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited by what is accepted */
    check(bind(fd, (struct sockaddr *)&address, length) == 0, "bind");
    check(listen(fd, BACKLOG) == 0, "listen");
    check(getsockname(fd, (struct sockaddr *)&address, &length) == 0, "getsockname");
    printf("Listening on %s:%u\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

#endif
