/* io_uring: completion, not readiness. Each connection has a buffer; a send and the receive after
 * it are linked, and only the receive reports. All operations of a turn go in one system call. */
#include "listen.h"

#include <liburing.h>

enum { ENTRIES = 4096, RECEIVED_MAX = 16 * 1024 };

struct connection {
    int fd;
    char bytes[RECEIVED_MAX];
};

static struct io_uring ring;
static char accepting, sending; /* what a completion is about, if not a connection's receive */

static struct io_uring_sqe *entry(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    check(sqe != NULL, "io_uring_get_sqe");
    return sqe;
}

/* Operations that are linked must be submitted together. */
static void make_room(unsigned entries)
{
    if (io_uring_sq_space_left(&ring) < entries)
        io_uring_submit(&ring);
}

/* Preparing an operation resets the entry, so data and flags are set last. */
static void accept_next(int listener)
{
    make_room(1);
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, &accepting);
}

static void receive(struct connection *connection)
{
    make_room(1);
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_recv(sqe, connection->fd, connection->bytes, RECEIVED_MAX, 0);
    io_uring_sqe_set_data(sqe, connection);
}

/* If the send fails, the receive is cancelled, and tells. */
static void echo(struct connection *connection, size_t count)
{
    make_room(2);
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_send(sqe, connection->fd, connection->bytes, count, MSG_WAITALL);
    io_uring_sqe_set_data(sqe, &sending);
    io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
    receive(connection);
}

static void accepted(int listener, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        struct connection *connection = malloc(sizeof *connection);
        check(connection != NULL, "malloc");
        connection->fd = cqe->res;
        receive(connection);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        accept_next(listener);
}

static void received(struct connection *connection, int count)
{
    if (count > 0) {
        echo(connection, (size_t)count);
    } else {
        close(connection->fd);
        free(connection);
    }
}

int main(int argc, char **argv)
{
    int listener = listening_socket(argc, argv);
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 8 * ENTRIES,
    };
    int outcome = io_uring_queue_init_params(ENTRIES, &ring, &parameters);
    errno = -outcome;
    check(outcome == 0, "io_uring_queue_init");
    accept_next(listener);
    for (;;) {
        outcome = io_uring_submit_and_wait(&ring, 1);
        errno = -outcome;
        check(outcome >= 0 || outcome == -EINTR, "io_uring_submit_and_wait");
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&ring, head, cqe) {
            void *about = io_uring_cqe_get_data(cqe);
            if (about == &accepting)
                accepted(listener, cqe);
            else if (about != &sending)
                received(about, cqe->res);
            count++;
        }
        io_uring_cq_advance(&ring, count);
    }
}
