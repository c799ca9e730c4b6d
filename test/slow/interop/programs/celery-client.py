"""Scenarios against a running Celery worker. Usage: celery-client.py SCENARIO, with BROKER_URL in the environment."""
import sys

from celery import chain, group
from celery_tasks import add, app, echo, fails, rejects, succeeds_third_time
from kombu import Connection

SECONDS = 20


def first_task():
    assert add.delay(4, 4).get(timeout=SECONDS) == 8


def chained_and_grouped():
    assert chain(add.s(1, 2), add.s(3), add.s(4)).delay().get(timeout=SECONDS) == 10
    assert group(add.s(n, n) for n in range(50)).delay().get(timeout=SECONDS) == [2 * n for n in range(50)]


def retried_and_delayed():
    assert succeeds_third_time.delay().get(timeout=SECONDS) == 2
    assert add.apply_async((1, 1), countdown=0.2).get(timeout=SECONDS) == 2


def failed():
    result = fails.delay()
    try:
        result.get(timeout=SECONDS)
        raise AssertionError('did not fail')
    except KeyError as error:
        assert error.args == ('no such thing',), error


def rejected():
    with Connection(app.conf.broker_url) as connection:
        graveyard = connection.SimpleQueue('celery-graveyard')
        rejects.delay()
        message = graveyard.get(timeout=SECONDS)
        deaths = message.headers['x-death']
        assert [(d['queue'], d['reason'], d['count']) for d in deaths] == [('careful', 'rejected', 1)], deaths
        assert message.headers['task'] == 'celery_tasks.rejects', message.headers
        message.ack()
        graveyard.queue.delete()


def acked_late_with_priority():
    results = [echo.apply_async((str(n),), priority=n) for n in range(10)]
    assert [result.get(timeout=SECONDS) for result in results] == [str(n) for n in range(10)]


def controlled():
    """Remote control goes through a fanout exchange, the replies through a queue of their own."""
    replies = app.control.ping(timeout=5, limit=1)
    assert len(replies) == 1 and list(replies[0].values()) == [{'ok': 'pong'}], replies
    stats = app.control.inspect(timeout=5, limit=1).stats()
    assert list(stats.values())[0]['prefetch_count'] == 4, stats


globals()[sys.argv[1]]()
print('done')
