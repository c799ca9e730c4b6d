"""Scenarios for pika, each the documented way. Usage: pika-client.py URL SCENARIO. Exits with 0 when all was as expected."""
import sys

import pika
from pika.exceptions import (AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker, NackError,
                             ProbableAccessDeniedError, ProbableAuthenticationError, UnroutableError)

URL = sys.argv[1]


def connect(url=URL):
    return pika.BlockingConnection(pika.URLParameters(url))


def hello_world():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue='pika-hello', auto_delete=True)
    got = []

    def on_message(ch, method, properties, body):
        got.append(body)
        ch.basic_ack(delivery_tag=method.delivery_tag)
        ch.stop_consuming()

    channel.basic_consume(queue='pika-hello', on_message_callback=on_message)
    channel.basic_publish(exchange='', routing_key='pika-hello', body='Hello World!')
    channel.start_consuming()
    assert got == [b'Hello World!'], got
    connection.close()


def properties_and_get():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare('', exclusive=True).method.queue
    assert queue.startswith('amq.gen-'), queue
    headers = {'text': 'Grüße', 'n': 7, 'big': 2 ** 40, 'yes': True, 'none': None, 'list': [1, 'two'], 'in': {'a': 1}}
    sent = pika.BasicProperties(content_type='text/plain', headers=headers, delivery_mode=2, priority=1,
                                correlation_id='c', expiration='60000', message_id='m', timestamp=1700000000)
    channel.basic_publish('', queue, 'x' * 300000, sent)
    channel.basic_publish('', queue, 'second')
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert body == b'x' * 300000 and method.message_count == 1 and not method.redelivered, method
    assert properties.headers == headers, properties.headers
    assert (properties.delivery_mode, properties.expiration, properties.timestamp) == (2, '60000', 1700000000)
    assert channel.basic_get(queue, auto_ack=True)[2] == b'second'
    assert channel.basic_get(queue) == (None, None, None)
    connection.close()


def confirms_and_returns():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare('', exclusive=True, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'}).method.queue
    channel.basic_publish('', queue, 'fits', mandatory=True)
    try:
        channel.basic_publish('', queue, 'does not fit')
        raise AssertionError('not nacked')
    except NackError:
        pass
    try:
        channel.basic_publish('amq.direct', 'nobody', 'lost', mandatory=True)
        raise AssertionError('not returned')
    except UnroutableError as error:
        assert error.messages[0].method.reply_code == 312, error
    connection.close()


def transactions():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare('', exclusive=True).method.queue
    channel.tx_select()
    channel.basic_publish('', queue, 'rolled back')
    channel.tx_rollback()
    channel.basic_publish('', queue, 'committed')
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
    channel.tx_commit()
    assert channel.basic_get(queue, auto_ack=True)[2] == b'committed'
    assert channel.basic_get(queue)[0] is None
    connection.close()


def channel_errors():
    connection = connect()
    for code, provoke in (
            (404, lambda ch: ch.queue_declare('pika-no-such-queue', passive=True)),
            (403, lambda ch: ch.queue_declare('amq.mine')),
            (406, lambda ch: ch.basic_ack(82) or ch.queue_declare('', exclusive=True)),
            (403, lambda ch: ch.exchange_delete('amq.direct'))):
        channel = connection.channel()
        try:
            provoke(channel)
            raise AssertionError(f'no {code}')
        except ChannelClosedByBroker as error:
            assert error.reply_code == code, error
    other = connect()
    channel = connection.channel()
    channel.queue_declare('pika-mine', exclusive=True)
    try:
        other.channel().queue_declare('pika-mine', exclusive=True)
        raise AssertionError('no 405')
    except ChannelClosedByBroker as error:
        assert error.reply_code == 405 and 'cannot obtain exclusive access to locked queue' in error.reply_text, error
    connection.close()
    other.close()


def refused():
    good = pika.URLParameters(URL)
    bad = pika.URLParameters(URL)
    bad.credentials = pika.PlainCredentials('guest', 'wrong')
    try:
        pika.BlockingConnection(bad)
        raise AssertionError('wrong password let in')
    except ProbableAuthenticationError as error:
        assert 'ACCESS_REFUSED - Login was refused' in str(error), error
    good.virtual_host = 'pika-no-such-vhost'
    try:
        pika.BlockingConnection(good)
        raise AssertionError('unknown vhost let in')
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        assert 'NOT_ALLOWED - vhost pika-no-such-vhost not found' in str(error), error


def consumer_cancelled():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare('pika-cancelled')
    cancelled = []

    def on_cancel(frame):
        cancelled.append(frame.method.consumer_tag)

    channel.add_on_cancel_callback(on_cancel)
    tag = channel.basic_consume('pika-cancelled', lambda *_: None)
    connect().channel().queue_delete('pika-cancelled')
    while not cancelled:
        connection.process_data_events(time_limit=0.1)
    assert cancelled == [tag], cancelled
    connection.close()


def recovers():
    """The recovery loop of pika's documentation: connect again whenever the broker closes the connection."""
    rounds = 0
    while True:
        try:
            connection = connect()
            channel = connection.channel()
            channel.queue_declare('pika-recovers', durable=True)
            rounds += 1
            print(f'consuming {rounds}', flush=True)
            for _method, _properties, body in channel.consume('pika-recovers', auto_ack=True):
                print('got', body.decode(), flush=True)
                channel.cancel()
                channel.queue_delete('pika-recovers')
                connection.close()
                return
        except ConnectionClosedByBroker as error:
            assert error.reply_code == 320 and 'CONNECTION_FORCED' in error.reply_text, error
        except AMQPConnectionError as error:
            print('connection error', repr(error), flush=True)


globals()[sys.argv[2]]()
print('done')
