"""Scenarios for stomp.py, as its users write them. Usage: stomp-client.py PORT SCENARIO. Exits with 0 when all was as expected."""
import queue
import sys

import stomp

PORT = int(sys.argv[1])
VERSIONS = {'1.0': stomp.StompConnection10, '1.1': stomp.StompConnection11, '1.2': stomp.StompConnection12}


class Heard(stomp.ConnectionListener):
    """What the broker says, in its order: (kind, frame)."""

    def __init__(self):
        self.frames = queue.Queue()

    def on_message(self, frame):
        self.frames.put(('message', frame))

    def on_receipt(self, frame):
        self.frames.put(('receipt', frame))

    def on_error(self, frame):
        self.frames.put(('error', frame))

    def next(self, kind):
        got, frame = self.frames.get(timeout=20)
        assert got == kind, (kind, got, frame.headers, frame.body)
        return frame

    def receipt(self, name):
        frame = self.next('receipt')
        assert frame.headers['receipt-id'] == name, frame.headers

    def nothing(self):
        assert self.frames.empty(), self.frames.get()


def connect(version='1.2', **options):
    # Without vhost, stomp.py names the server there, which is no virtual host of RabbitMQ's either.
    vhost = {} if version == '1.0' else {'vhost': '/'}
    connection = VERSIONS[version]([('127.0.0.1', PORT)], **vhost, **options)
    heard = Heard()
    connection.set_listener('', heard)
    connection.connect('guest', 'guest', wait=True)
    return connection, heard


def every_version():
    for version in VERSIONS:
        connection, heard = connect(version)
        connection.subscribe('/queue/py-hello', id='1', ack='client-individual')
        connection.send('/queue/py-hello', 'Grüße', headers={'persistent': True, 'own': 'yes'}, receipt='sent')
        frames = dict([heard.frames.get(timeout=20), heard.frames.get(timeout=20)])
        assert frames['receipt'].headers['receipt-id'] == 'sent'
        frame = frames['message']
        assert frame.body == 'Grüße' and frame.headers['own'] == 'yes', frame.headers
        if version == '1.2':
            connection.ack(frame.headers['ack'])
        elif version == '1.1':
            connection.ack(frame.headers['message-id'], '1')
        else:
            connection.ack(frame.headers['message-id'])
        connection.disconnect('gone')
        heard.receipt('gone')


def exchange_without_a_key():
    connection, heard = connect()
    connection.subscribe('/exchange/amq.fanout', id='1', receipt='on')
    heard.receipt('on')
    connection.send('/exchange/amq.fanout', 'to all')
    assert heard.next('message').body == 'to all'
    connection.disconnect()


def pythons_booleans():
    connection, heard = connect()
    keeping = {'durable': True, 'auto-delete': False}
    connection.subscribe('/topic/py.durable', id='d', headers=keeping, receipt='on')
    heard.receipt('on')
    connection.unsubscribe('d', receipt='off')
    heard.receipt('off')
    connection.send('/topic/py.durable', 'while away')
    connection.subscribe('/topic/py.durable', id='d', headers=keeping, ack='client-individual')
    frame = heard.next('message')
    connection.nack(frame.headers['ack'], requeue=False, receipt='dropped')
    heard.receipt('dropped')
    connection.unsubscribe('d', headers={'durable': True}, receipt='ended')
    heard.receipt('ended')
    heard.nothing()
    connection.disconnect()


def transactions():
    connection, heard = connect()
    connection.subscribe('/queue/py-tx', id='1', receipt='on')
    heard.receipt('on')
    for outcome in ('abort', 'commit'):
        transaction = connection.begin()
        connection.send('/queue/py-tx', outcome, receipt=outcome, transaction=transaction)
        getattr(connection, outcome)(transaction, receipt='done')
        if outcome == 'abort':
            heard.receipt('done')
    got = [heard.frames.get(timeout=20) for _ in range(3)]
    assert [frame.headers['receipt-id'] for kind, frame in got if kind == 'receipt'] == ['commit', 'done'], got
    assert [frame.body for kind, frame in got if kind == 'message'] == ['commit'], got
    connection.disconnect()


def heart_beats():
    connection, heard = connect('1.1', heartbeats=(200, 200))
    connection.subscribe('/queue/py-beats', id='1', receipt='on')
    heard.receipt('on')
    # stomp.py ends the connection when it hears nothing for 1.5 times as long.
    try:
        heard.frames.get(timeout=2)
    except queue.Empty:
        pass
    assert connection.is_connected()
    connection.disconnect()


def errors():
    connection, heard = connect()
    connection.send('/exchange/no.such.exchange/k', 'x', receipt='r')
    frame = heard.next('error')
    assert frame.headers['message'] == 'not_found' and frame.headers['receipt-id'] == 'r', frame.headers
    refused = stomp.StompConnection12([('127.0.0.1', PORT)], vhost='/')
    heard = Heard()
    refused.set_listener('', heard)
    try:
        refused.connect('guest', 'wrong', wait=True)
        raise AssertionError('a wrong password was accepted')
    except stomp.exception.ConnectFailedException:
        assert heard.next('error').headers['message'] == 'Bad CONNECT'


globals()[sys.argv[2]]()
print('done', flush=True)
