/* The limit: what an echo server costs that does nothing but the system calls.
 *
 * Edge-triggered, asked once for both directions, one buffer shared by all connections. A
 * connection holds memory of its own only while the kernel does not take what it is owed, and is
 * not read from meanwhile. */
#include "listen.h"

#include <sys/epoll.h>

enum { EVENTS = 1024, READS_A_TURN = 4 };
static const unsigned INTEREST = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

struct connection {
    int fd;
    unsigned start, end; /* of what is owed, within `owed` */
    char *owed;          /* null if nothing is */
};

static char shared[BUFFER];

static void drop(struct connection *connection)
{
    close(connection->fd);
    free(connection->owed);
    free(connection);
}

/* Sends, and keeps what the kernel does not take. False: the connection is broken. */
static bool echo(struct connection *connection, size_t count)
{
    ssize_t sent = send(connection->fd, shared, count, 0);
    if (sent == (ssize_t)count)
        return true;
    if (sent < 0) {
        if (errno != EAGAIN)
            return false;
        sent = 0;
    }
    connection->start = 0;
    connection->end = (unsigned)(count - (size_t)sent);
    connection->owed = malloc(connection->end);
    check(connection->owed != NULL, "malloc");
    memcpy(connection->owed, shared + sent, connection->end);
    return true;
}

/* Sends what is owed. False: the connection is broken. */
static bool flush(struct connection *connection)
{
    size_t count = connection->end - connection->start;
    ssize_t sent = send(connection->fd, connection->owed + connection->start, count, 0);
    if (sent < 0)
        return errno == EAGAIN;
    connection->start += (unsigned)sent;
    if (connection->start == connection->end) {
        free(connection->owed);
        connection->owed = NULL;
    }
    return true;
}

/* False: the connection is at its end. */
static bool serve(int epoll, struct connection *connection, unsigned events)
{
    if (connection->owed && !flush(connection))
        return false;
    for (int reads = 0; !connection->owed; reads++) {
        if (reads == READS_A_TURN) {
            /* Others first; asking again brings the event again. */
            struct epoll_event again = {.events = INTEREST, .data.ptr = connection};
            return epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &again) == 0;
        }
        ssize_t count = recv(connection->fd, shared, BUFFER, 0);
        if (count < 0)
            return errno == EAGAIN;
        if (count == 0 || !echo(connection, (size_t)count))
            return false;
        /* A short read has emptied the socket, unless an end came too, which has no further edge. */
        if (count < BUFFER && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return true;
    }
    return true;
}

static void accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection *connection = calloc(1, sizeof *connection);
        check(connection != NULL, "calloc");
        connection->fd = fd;
        struct epoll_event event = {.events = INTEREST, .data.ptr = connection};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    int listener = listening_socket(argc, argv);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    check(epoll >= 0, "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    static struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_all(epoll, listener);
            else if (!serve(epoll, connection, events[i].events))
                drop(connection);
        }
    }
}
