/* libevent's bufferevent: what has been read is moved, not copied, to what is written. */
#include "listen.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

static size_t unsent(struct bufferevent *client)
{
    return evbuffer_get_length(bufferevent_get_output(client));
}

static void on_read(struct bufferevent *client, void *finished)
{
    (void)finished;
    bufferevent_write_buffer(client, bufferevent_get_input(client));
    if (unsent(client) >= BUFFER)
        bufferevent_disable(client, EV_READ);
}

/* Everything has been written. */
static void on_write(struct bufferevent *client, void *finished)
{
    if (finished)
        bufferevent_free(client);
    else
        bufferevent_enable(client, EV_READ);
}

static void on_event(struct bufferevent *client, short what, void *finished)
{
    (void)finished;
    if ((what & BEV_EVENT_EOF) && unsent(client) > 0)
        bufferevent_setcb(client, NULL, on_write, on_event, client); /* not null: finished */
    else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(client);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *base)
{
    (void)listener, (void)address, (void)length;
    struct bufferevent *client = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    check(client != NULL, "bufferevent_socket_new");
    bufferevent_set_max_single_read(client, BUFFER);
    bufferevent_set_max_single_write(client, BUFFER);
    bufferevent_setcb(client, on_read, on_write, on_event, NULL);
    bufferevent_enable(client, EV_READ | EV_WRITE);
}

int main(int argc, char **argv)
{
    struct event_base *base = event_base_new();
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC;
    /* A backlog of 0: it listens already. */
    check(evconnlistener_new(base, on_accept, base, flags, 0, listening_socket(argc, argv)) != NULL,
          "evconnlistener_new");
    return event_base_dispatch(base);
}
