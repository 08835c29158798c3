/* libuv, answering each line by a write of its own. */
#include "listen.h"

#include <uv.h>

/* Lines are short here; a longer one ends its connection. */
enum { LINE_MAX_LENGTH = 4096 };

struct client {
    uv_tcp_t tcp; /* first: a client is its handle */
    int writes;   /* under way */
    size_t length;
    char line[LINE_MAX_LENGTH]; /* what has come of the line that is not yet whole */
};

struct answer {
    uv_write_t write;
    char bytes[];
};

static char shared[BUFFER];

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
    uv_stream_t *stream = write->handle;
    struct client *client = (struct client *)stream;
    client->writes--;
    if (status < 0)
        drop(stream);
    else if (client->writes == 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_read_start(stream, on_alloc, on_read);
    free(write);
}

/* The kernel is tried first; what it does not take is queued, and nothing read until it has gone. */
static void answer(struct client *client)
{
    uv_stream_t *stream = (uv_stream_t *)client;
    struct answer *answer = malloc(sizeof *answer + client->length + 2);
    check(answer != NULL, "malloc");
    int length = sprintf(answer->bytes, "%.*s\n", (int)client->length, client->line);
    uv_buf_t buffer = uv_buf_init(answer->bytes, (unsigned)length);
    int sent = client->writes ? 0 : uv_try_write(stream, &buffer, 1);
    if (sent == length) {
        free(answer);
        return;
    }
    if (sent > 0)
        buffer = uv_buf_init(answer->bytes + sent, (unsigned)(length - sent));
    uv_read_stop(stream);
    client->writes++;
    if (uv_write(&answer->write, stream, &buffer, 1, on_written) < 0) {
        client->writes--;
        free(answer);
        drop(stream);
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct client *client = (struct client *)stream;
    const char *at = buffer->base, *end = at + (count > 0 ? count : 0);
    if (count < 0)
        drop(stream);
    while (at < end && !uv_is_closing((uv_handle_t *)stream)) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t more = (size_t)((newline ? newline : end) - at);
        if (client->length + more > LINE_MAX_LENGTH) {
            drop(stream);
            return;
        }
        memcpy(client->line + client->length, at, more);
        client->length += more;
        at += more;
        if (newline) {
            answer(client);
            client->length = 0;
            at++;
        }
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *client = calloc(1, sizeof *client);
    check(client != NULL && status == 0, "accept");
    uv_tcp_init(listener->loop, &client->tcp);
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
