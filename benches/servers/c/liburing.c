/* io_uring: completion, not readiness. Each connection has a buffer, and one operation under way:
 * it receives, or it sends what it received. All operations of a turn go in one system call. */
#include "listen.h"

#include <liburing.h>

enum { ENTRIES = 4096, RECEIVED_MAX = 16 * 1024 };

struct connection {
    int fd;
    int start, end;            /* of what is to be sent, within `bytes` */
    char bytes[RECEIVED_MAX];
};

static struct io_uring ring;

static struct io_uring_sqe *entry(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (!sqe) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
        check(sqe != NULL, "io_uring_get_sqe");
    }
    return sqe;
}

/* Preparing an operation resets the entry's data, so that is set last. */
static void accept_next(int listener)
{
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, NULL);
}

static void receive(struct connection *connection)
{
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_recv(sqe, connection->fd, connection->bytes, RECEIVED_MAX, 0);
    io_uring_sqe_set_data(sqe, connection);
}

static void send_rest(struct connection *connection)
{
    struct io_uring_sqe *sqe = entry();
    size_t count = (size_t)(connection->end - connection->start);
    io_uring_prep_send(sqe, connection->fd, connection->bytes + connection->start, count, 0);
    io_uring_sqe_set_data(sqe, connection);
}

static void accepted(int listener, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        struct connection *connection = malloc(sizeof *connection);
        check(connection != NULL, "malloc");
        connection->fd = cqe->res;
        connection->start = connection->end = 0;
        receive(connection);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        accept_next(listener);
}

static void moved(struct connection *connection, int count)
{
    bool sending = connection->end > 0;
    if (count < 0 || (count == 0 && !sending)) {
        close(connection->fd);
        free(connection);
        return;
    }
    if (sending)
        connection->start += count;
    else
        connection->end = count;
    if (connection->start < connection->end) {
        send_rest(connection);
    } else {
        connection->start = connection->end = 0;
        receive(connection);
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
            struct connection *connection = io_uring_cqe_get_data(cqe);
            if (connection)
                moved(connection, cqe->res);
            else
                accepted(listener, cqe);
            count++;
        }
        io_uring_cq_advance(&ring, count);
    }
}
