/* libuv: one buffer shared by all, writing at once, and a queued write only for what the kernel
 * did not take. */
#include "listen.h"

#include <uv.h>

static char shared[BUFFER];

struct owed {
    uv_write_t write;
    uv_stream_t *stream;
    char bytes[];
};

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(shared, BUFFER);
}

static void on_close(uv_handle_t *handle) { free(handle); }

static void drop(uv_stream_t *stream)
{
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_close);
}

static void on_written(uv_write_t *write, int status)
{
    struct owed *owed = (struct owed *)write;
    if (status < 0)
        drop(owed->stream);
    else
        uv_read_start(owed->stream, on_alloc, on_read);
    free(owed);
}

/* What the kernel did not take is written later, and nothing read until then. */
static void owe(uv_stream_t *stream, const char *bytes, size_t count)
{
    struct owed *owed = malloc(sizeof *owed + count);
    check(owed != NULL, "malloc");
    memcpy(owed->bytes, bytes, count);
    owed->stream = stream;
    uv_buf_t buffer = uv_buf_init(owed->bytes, (unsigned)count);
    uv_read_stop(stream);
    if (uv_write(&owed->write, stream, &buffer, 1, on_written) < 0) {
        free(owed);
        drop(stream);
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    (void)buffer;
    if (count < 0) {
        drop(stream);
        return;
    }
    uv_buf_t all = uv_buf_init(shared, (unsigned)count);
    int sent = count ? uv_try_write(stream, &all, 1) : 0;
    if (sent == UV_EAGAIN)
        sent = 0;
    if (sent < 0)
        drop(stream);
    else if (sent < count)
        owe(stream, shared + sent, (size_t)(count - sent));
}

static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *client = malloc(sizeof *client);
    check(client != NULL && status == 0, "accept");
    uv_tcp_init(listener->loop, client);
    check(uv_accept(listener, (uv_stream_t *)client) == 0, "uv_accept");
    uv_read_start((uv_stream_t *)client, on_alloc, on_read);
}

int main(int argc, char **argv)
{
    uv_tcp_t listener;
    uv_tcp_init(uv_default_loop(), &listener);
    check(uv_tcp_open(&listener, listening_socket(argc, argv)) == 0, "uv_tcp_open");
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) == 0, "uv_listen");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
