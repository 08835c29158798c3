"""What people do with the client of Python, done to the server whose port is given."""

import sys
import time

import redis

# Newer versions ask for RESP3 unless they are told otherwise.
client = redis.Redis(port=int(sys.argv[1]), protocol=2, decode_responses=True)

# Strings and keys.
assert client.ping()
assert client.set("a", "1") is True
assert client.set("a", "2", nx=True) is None
assert client.set("a", "2", get=True) == "1"
assert client.get("a") == "2"
assert (client.incr("a"), client.decr("a"), client.incrby("a", 10)) == (3, 2, 12)
assert client.append("text", "hello") == 5
assert client.strlen("text") == 5
assert client.mset({"b": "3", "c": "4"})
assert client.mget("b", "c", "d") == ["3", "4", None]
assert client.exists("a", "b", "d") == 2
assert client.type("a") == "string"
assert client.getdel("c") == "4"
assert client.delete("b", "d") == 1
assert sorted(client.scan_iter(match="*", count=1)) == ["a", "text"]
assert client.dbsize() == 2

# Times.
assert client.expire("a", 100) and 99 <= client.ttl("a") <= 100
assert client.persist("a") and client.ttl("a") == -1
assert client.set("short", "1", px=20)
while client.exists("short"):
    time.sleep(0.001)
assert client.pttl("short") == -2

# Pipelines and transactions.
with client.pipeline(transaction=False) as pipe:
    for number in range(20_000):
        pipe.set(f"key:{number}", "x" * 50)
    assert all(pipe.execute())
with client.pipeline(transaction=False) as pipe:
    for number in range(20_000):
        pipe.get(f"key:{number}")
    assert pipe.execute() == ["x" * 50] * 20_000
with client.pipeline(transaction=True) as pipe:
    assert pipe.set("n", "1").incr("n").get("n").execute() == [True, 2, "2"]

# Publish and subscribe.
subscriber = client.pubsub()
subscriber.subscribe("news")
subscriber.psubscribe("s*")
assert [subscriber.get_message(timeout=30)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
assert client.publish("news", "hello") == 1
assert subscriber.get_message(timeout=30)["data"] == "hello"
assert client.publish("sports", "goal") == 1
assert subscriber.get_message(timeout=30)["pattern"] == "s*"
subscriber.close()

# The connection and the server.
assert client.client_setname("me") and client.client_getname() == "me"
assert [one["name"] for one in client.client_list() if one["id"] == str(client.client_id())] == ["me"]
assert client.info()["db0"]["keys"] == client.dbsize()
assert client.config_get("save") == {"save": ""}
assert client.command_count() == len(client.command())
with client.monitor() as monitor:
    client.echo("seen")
    assert monitor.next_command()["command"] == "ECHO seen"
try:
    client.execute_command("NONSENSE")
    raise AssertionError("a command that does not exist was answered")
except redis.ResponseError as error:
    assert "unknown command" in str(error)
assert client.flushall() and client.dbsize() == 0
print("all is well")
