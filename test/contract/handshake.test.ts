/** From the protocol header to open-ok: B1, B2, B3; heartbeats; the end of a connection. */
import { describe, expect, it } from 'vitest';
import { itAdministered, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqplainResponse, type HandshakeOptions, PROTOCOL_HEADER, sendAndReadAll } from '../support/raw-amqp.ts';
import { closesConnection } from '../support/raw-channel.ts';

const broker = useBroker({ amqp: { loginRefusalDelayMs: 100 } });
const headerOf = (...version: number[]): Buffer => Buffer.concat([Buffer.from('AMQP'), Buffer.from(version)]);

describe('B1: protocol header', () => {
  it.each([
    ['AMQP 0 0 9 1', headerOf(0, 0, 9, 1)],
    ['AMQP 1 1 0 9', headerOf(1, 1, 0, 9)],
  ])('B1: %s is answered with connection.start', async (_name, header) => {
    const connection = await broker.dial();
    connection.write(header);
    expect((await connection.control.expect('connection.start')).args).toMatchObject({
      versionMajor: 0,
      versionMinor: 9,
    });
  });

  it('B1: the header may come in pieces', async () => {
    const connection = await broker.dial();
    for (const octet of PROTOCOL_HEADER) connection.write(Buffer.from([octet]));
    await connection.control.expect('connection.start');
  });

  it.each([
    ['AMQP 0 0 9 2', headerOf(0, 0, 9, 2)],
    ['AMQP 0 0 10 0', headerOf(0, 0, 10, 0)],
    ['AMQP 2 0 9 1', headerOf(2, 0, 9, 1)],
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['another HTTP request', Buffer.from('POST /api HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['a TLS client hello', Buffer.from('16030102000100', 'hex')],
    ['eight zeros', Buffer.alloc(8)],
    ['XMQP0091', Buffer.from('XMQP0091')],
  ])('B1: %s is answered with the supported header, and the socket is closed', async (_name, octets) => {
    const padded = octets.length < 8 ? Buffer.concat([octets, Buffer.alloc(8)]) : octets;
    expect(await sendAndReadAll(broker, padded)).toEqual(headerOf(0, 0, 9, 1));
  });

  onlyWarren('RabbitMQ 3 still takes 0-8, or answers with the header of AMQP 1.0')(
    'B1: AMQP 0-8 and AMQP 1.0 are answered with the header of 0-9-1, always',
    async () => {
      for (const header of [headerOf(1, 1, 8, 0), headerOf(0, 1, 0, 0), headerOf(3, 1, 0, 0)]) {
        expect(await sendAndReadAll(broker, header)).toEqual(headerOf(0, 0, 9, 1));
      }
    },
  );
});

describe('B2: start and tune', () => {
  it('B2: start offers PLAIN and AMQPLAIN, en_US and the capabilities', async () => {
    const { start } = await (await broker.dial()).handshake();
    const { mechanisms, locales, serverProperties } = start as {
      mechanisms: string;
      locales: string;
      serverProperties: Record<string, unknown>;
    };
    expect(mechanisms.split(' ').toSorted()).toEqual(['AMQPLAIN', 'PLAIN']);
    expect(locales).toBe('en_US');
    for (const name of ['product', 'version', 'platform', 'copyright', 'information', 'cluster_name']) {
      expect(serverProperties[name], name).toEqual(expect.stringMatching(/./));
    }
    expect(serverProperties.capabilities).toEqual({
      publisher_confirms: true,
      exchange_exchange_bindings: true,
      'basic.nack': true,
      consumer_cancel_notify: true,
      'connection.blocked': true,
      consumer_priorities: true,
      authentication_failure_close: true,
      per_consumer_qos: true,
      direct_reply_to: true,
    });
  });

  onlyWarren('its own name, and PLAIN first')('B2: the product is Warren', async () => {
    const { start } = await (await broker.dial()).handshake();
    expect(start).toMatchObject({ mechanisms: 'PLAIN AMQPLAIN', serverProperties: { product: 'Warren' } });
  });

  it('B2: tune proposes 2047 channels, frames of 131072 octets, heartbeats of 60 seconds', async () => {
    const { tune } = await (await broker.dial()).handshake();
    expect(tune).toEqual({ channelMax: 2047, frameMax: 131_072, heartbeat: 60 });
  });

  it('B2: frame_max 4096 is accepted and kept to', async () => {
    const connection = await broker.connect({ frameMax: 4096 });
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    const body = Buffer.alloc(10_000, 'x');
    channel.publish('', queue, body);
    await channel.consume(queue, { noAck: true });
    const delivery = await channel.delivery();
    expect(delivery.content?.body.equals(body)).toBe(true);
    expect(delivery.content?.bodyFrames).toEqual([4088, 4088, 1824]);
  });

  onlyWarren('RabbitMQ takes 0 for more than it allows')(
    'B2: frame_max 0 is accepted: no limit asked for',
    async () => {
      const connection = await broker.connect({ frameMax: 0 });
      const channel = await connection.openChannel();
      const queue = await channel.queue(broker.fresh('q'));
      channel.publish('', queue, Buffer.alloc(200_000, 'x'));
      await channel.consume(queue, { noAck: true });
      expect((await channel.delivery()).content?.body.length).toBe(200_000);
    },
  );

  onlyWarren('RabbitMQ 3 just closes the socket')('B2: values out of bounds are refused: 530', async () => {
    const tries: [HandshakeOptions, string][] = [
      [{ frameMax: 4095 }, 'negotiated frame_max = 4095 is lower than the minimum allowed value (4096)'],
      [{ frameMax: 131_073 }, 'negotiated frame_max = 131073 is higher than the maximum allowed value (131072)'],
      [{ channelMax: 2048 }, 'negotiated channel_max = 2048 is higher than the maximum allowed value (2047)'],
    ];
    for (const [options, text] of tries) {
      const connection = await broker.dial();
      await connection.login();
      connection.tuneOk(await connection.control.expect('connection.tune'), options);
      expect(await connection.control.closed()).toEqual(
        closesConnection(530, `NOT_ALLOWED - ${text}`, 'connection.tune-ok'),
      );
    }
  });

  it("B2: the client's heartbeat rules: sent every half; two missed and the connection is given up", async () => {
    const silent = await broker.connect({ heartbeat: 1 });
    const beating = await broker.connect({ heartbeat: 1 });
    const channel = await beating.openChannel();
    const timer = setInterval(() => beating.writeFrame(8, 0, Buffer.alloc(0)), 300);
    try {
      await eventually(() => expect(silent.heartbeats).toBeGreaterThanOrEqual(2));
      expect(silent.ended).toBe(false);
      await silent.untilEnded();
      expect(await channel.call('basic.qos')).toEqual({});
      expect(beating.heartbeats).toBeGreaterThanOrEqual(2);
    } finally {
      clearInterval(timer);
    }
  });
});

describe('B3: logging in', () => {
  const refusal = (mechanism: string): string =>
    `ACCESS_REFUSED - Login was refused using authentication mechanism ${mechanism}. ` +
    'For details see the broker logfile.';

  it('B3: PLAIN and AMQPLAIN', async () => {
    await broker.connect();
    await broker.connect({ mechanism: 'AMQPLAIN', response: amqplainResponse('guest', 'guest') });
  });

  it.each([
    ['PLAIN', '\0guest\0wrong'],
    ['PLAIN', '\0nobody\0guest'],
    ['PLAIN', '\0guest\0'],
    ['AMQPLAIN', amqplainResponse('guest', 'wrong')],
  ])(
    'B3: %s with wrong credentials is 403 for a client that knows authentication_failure_close',
    async (mechanism, response) => {
      const connection = await broker.dial();
      await connection.login({ mechanism, response, capabilities: { authentication_failure_close: true } });
      const closed = await connection.control.closed();
      expect([closed.scope, closed.code, closed.text]).toEqual(['connection', 403, refusal(mechanism)]);
    },
  );

  it('B3: without that capability the socket is just closed; a malformed response never leads in', async () => {
    const attempts = await Promise.all(
      [
        { password: 'wrong' },
        { mechanism: 'SIDEWAYS' },
        { mechanism: '' },
        { mechanism: 'PLAIN', response: 'not even sasl' },
        { mechanism: 'AMQPLAIN', response: 'not even a table' },
      ].map(async (options) => {
        const connection = await broker.dial();
        await connection.login(options);
        await connection.untilEnded();
        return connection;
      }),
    );
    for (const connection of attempts) expect(connection.control.pending).toEqual([]);
    expect(attempts[0]?.closedBy).toBeUndefined();
  });

  it('B3: nothing but start-ok is taken before the login', async () => {
    const connection = await broker.dial();
    connection.write(PROTOCOL_HEADER);
    await connection.control.expect('connection.start');
    connection.control.send('connection.open', { virtualHost: broker.vhost });
    await expect(connection.control.expect('connection.open-ok')).rejects.toThrow(/closed|RESET/);
  });

  it('B3: an unknown virtual host is 530', async () => {
    const connection = await broker.dial();
    await connection.login();
    connection.tuneOk(await connection.control.expect('connection.tune'));
    expect(await connection.control.refused('connection.open', { virtualHost: 'nowhere' })).toEqual(
      closesConnection(530, 'NOT_ALLOWED - vhost nowhere not found', 'connection.open'),
    );
  });

  itAdministered('B3: a virtual host without permissions is 530', async () => {
    const { administration, vhost } = broker;
    await administration.putUser({ name: 'outsider', password: 'secret' });
    try {
      const connection = await broker.dial();
      await connection.login({ username: 'outsider', password: 'secret' });
      connection.tuneOk(await connection.control.expect('connection.tune'));
      expect(await connection.control.refused('connection.open', { virtualHost: vhost })).toEqual(
        closesConnection(
          530,
          `NOT_ALLOWED - access to vhost '${vhost}' refused for user 'outsider'`,
          'connection.open',
        ),
      );
    } finally {
      await administration.deleteUser('outsider');
    }
  });
});

describe('goodbye', () => {
  it('connection.close is answered', async () => {
    const connection = await broker.connect();
    await connection.openChannel();
    expect(await connection.control.call('connection.close', { replyCode: 200, replyText: 'goodbye' })).toEqual({});
  });

  it.each(['guest', 'wrong'])(
    'connection.update-secret with the secret %s is accepted: a password proved once stays proved',
    async (newSecret) => {
      const connection = await broker.connect();
      await connection.control.call('connection.update-secret', { newSecret, reason: 'test' });
      await connection.openChannel();
    },
  );
});
