/** The AMQP door towards peers that are not simply a socket from this machine, and what a client sees of its economies. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { type BrokerOptions, createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker } from '../../../broker/port.ts';
import { acceptAmqp, amqpWebSocketDoor, startAmqpGateway } from '../../../gateways/amqp/gateway.ts';
import { type AmqpOptions, resolveOptions } from '../../../gateways/amqp/options.ts';
import type { PeerAddress } from '../../../gateways/gateway.ts';
import { REFERENCED_BYTES_MIN } from '../../../gateways/outbox.ts';
import { startWebSocketGateway } from '../../../gateways/websocket.ts';
import { RawConnection } from '../../support/raw-amqp.ts';
import { closesConnection } from '../../support/raw-channel.ts';
import { headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const PEER: PeerAddress = {
  remoteAddress: '127.0.0.1',
  remotePort: 40000,
  localAddress: '127.0.0.1',
  localPort: 5672,
  loopback: true,
  encrypted: false,
};

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Door {
  readonly broker: Broker;
  dial(): Promise<RawConnection>;
}

/** A door whose every peer is said to be `peer`. */
async function door(
  peer: Partial<PeerAddress>,
  options: AmqpOptions = {},
  brokerOptions?: BrokerOptions,
): Promise<Door> {
  const broker = await createBroker(brokerOptions);
  const server: Server = createServer((socket) => acceptAmqp(broker, { socket, peer: { ...PEER, ...peer } }, options));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  closing.push(
    () => broker.close(),
    () => server.close(),
  );
  return {
    broker,
    async dial() {
      const connection = await RawConnection.connect({ host: '127.0.0.1', port });
      closing.push(() => connection.destroy());
      return connection;
    },
  };
}

async function untilRefused(connection: RawConnection): Promise<{ text: string; afterMs: number }> {
  const startedAt = performance.now();
  await connection.login({ capabilities: { authentication_failure_close: true } });
  const { text } = await connection.control.closed();
  return { text, afterMs: performance.now() - startedAt };
}

describe('B3: who the peer is', () => {
  it('EXTERNAL is offered to who has shown a certificate, and logs in under its name', async () => {
    const { broker, dial } = await door({ loopback: false, encrypted: true, certificateName: 'robot' });
    await broker.administration.putUser({ name: 'robot' });
    await broker.administration.setPermission({ vhost: '/', user: 'robot', configure: '', write: '', read: '' });
    const connection = await dial();
    const { start } = await connection.handshake({ mechanism: 'EXTERNAL', response: '' });
    expect(start.mechanisms).toBe('PLAIN AMQPLAIN EXTERNAL');
    expect(await broker.administration.connections()).toMatchObject([{ username: 'robot' }]);
  });

  it('EXTERNAL is not taken from anybody else', async () => {
    const { dial } = await door({}, { loginRefusalDelayMs: 1 });
    const connection = await dial();
    expect((await connection.login({ mechanism: 'EXTERNAL', response: 'guest' })).mechanisms).toBe('PLAIN AMQPLAIN');
    expect(await connection.control.closed()).toEqual(
      closesConnection(503, "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'", 'connection.start-ok'),
    );
  });

  it('guest from elsewhere is told the cure', async () => {
    const { dial } = await door({ loopback: false }, { loginRefusalDelayMs: 1 });
    const { text } = await untilRefused(await dial());
    expect(text).toMatch(/^ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN\. /);
    expect(text).toContain("User 'guest' can only connect via localhost");
    expect(text).toContain('RABBITMQ_DEFAULT_USER');
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(255);
  });

  it('who cannot log in waits for the answer, unless he is on this machine', async () => {
    const options = { loginRefusalDelayMs: 300 };
    const [far, near] = [await door({ loopback: false }, options), await door({ loopback: true }, options)];
    await near.broker.administration.putUser({ name: 'guest', password: 'changed' });
    expect((await untilRefused(await far.dial())).afterMs).toBeGreaterThanOrEqual(290);
    const { text, afterMs } = await untilRefused(await near.dial());
    expect(afterMs).toBeLessThan(290);
    expect(text).toBe(
      'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.',
    );
  });

  it('why a login was refused is in the log, the password is not', async () => {
    const { log, lines } = recordedLog();
    const { dial } = await door({}, { log, loginRefusalDelayMs: 1 });
    const connection = await dial();
    await connection.login({ username: 'somebody', password: 'sesame' });
    await connection.untilEnded();
    const [line] = lines.filter((each) => each.message === 'login refused');
    expect(line?.fields).toMatchObject({ username: 'somebody', mechanism: 'PLAIN' });
    expect(JSON.stringify(lines)).not.toContain('sesame');
  });
});

describe('B2: what the broker calls itself', () => {
  it('Warren, unless it is told to go for RabbitMQ', async () => {
    const plain = await (await door({}, { version: '1.2.3' })).dial();
    const { serverProperties } = await plain.login();
    expect(serverProperties).toMatchObject({ product: 'Warren', version: '1.2.3', cluster_name: 'warren@localhost' });
    const announcedProduct = { product: 'RabbitMQ', version: '3.13.7' };
    const other = await (await door({}, { announcedProduct })).dial();
    expect((await other.login()).serverProperties).toMatchObject(announcedProduct);
  });

  it('refuses to offer frames below the floor of the protocol', () => {
    expect(() => resolveOptions({ frameMaxBytes: 4095 })).toThrow(RangeError);
    expect(resolveOptions({ frameMaxBytes: 4096 }).frameMaxBytes).toBe(4096);
  });

  it('an empty virtual host is 530, with a guess at what was meant', async () => {
    const connection = await (await door({})).dial();
    await connection.login();
    connection.tuneOk(await connection.control.expect('connection.tune'));
    const { code, text } = await connection.control.refused('connection.open', { virtualHost: '' });
    expect(code).toBe(530);
    expect(text).toContain("did you mean '/'");
  });
});

describe('economies', () => {
  it('B21: confirms of one turn become one ack', async () => {
    const { dial } = await door({});
    const connection = await dial();
    await connection.handshake();
    const channel = await connection.openChannel();
    await channel.call('confirm.select');
    const publish = Buffer.concat([methodFrame(1, 'basic.publish', { routingKey: 'nowhere' }), headerFrame(1, 0)]);
    connection.write(Buffer.concat(Array.from({ length: 500 }, () => publish)));
    let frames = 0;
    for (let last = 0; last < 500; frames += 1) {
      const ack = await channel.expect('basic.ack');
      expect(ack.args.multiple).toBe(ack.tag > last + 1);
      last = ack.tag;
    }
    expect(frames).toBeLessThan(20);
  });

  it('confirms that are held go out before what ends the channel', async () => {
    const { dial } = await door({});
    const connection = await dial();
    await connection.handshake();
    const channel = await connection.openChannel();
    await channel.call('confirm.select');
    const publish = Buffer.concat([methodFrame(1, 'basic.publish', { routingKey: 'nowhere' }), headerFrame(1, 0)]);
    connection.write(Buffer.concat([publish, publish, methodFrame(1, 'basic.ack', { deliveryTag: 9 })]));
    expect((await channel.expect('basic.ack')).args).toEqual({ deliveryTag: 2, multiple: true });
    expect(await channel.closed()).toMatchObject({ code: 406, text: 'PRECONDITION_FAILED - unknown delivery tag 9' });
    const other = await connection.openChannel(2);
    await other.call('confirm.select');
    const second = Buffer.concat([methodFrame(2, 'basic.publish', { routingKey: 'nowhere' }), headerFrame(2, 0)]);
    connection.write(Buffer.concat([second, methodFrame(2, 'channel.close', { replyCode: 200 })]));
    expect((await other.next()).name).toBe('basic.ack');
    expect((await other.next()).name).toBe('channel.close-ok');
  });

  it.each([4096, 131_072, 0])(
    'bodies of every size arrive whole in frames of at most frame_max %i',
    async (frameMax) => {
      const { dial } = await door({});
      const connection = await dial();
      await connection.handshake({ frameMax });
      const channel = await connection.openChannel();
      const queue = await channel.queue('', {}, { exclusive: true });
      await channel.consume(queue, { noAck: true });
      const limit = frameMax === 0 ? Number.POSITIVE_INFINITY : frameMax - 8;
      for (const size of [
        1,
        47,
        49,
        4087,
        4088,
        4089,
        REFERENCED_BYTES_MIN - 1,
        REFERENCED_BYTES_MIN,
        70_000,
        300_000,
      ]) {
        const body = Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index + size) % 253));
        channel.publish('', queue, body, { messageId: `${size}`, headers: { 'a header': 'x'.repeat(size % 1000) } });
        const { content } = await channel.delivery();
        expect(content?.body.equals(body)).toBe(true);
        expect(content?.properties.messageId).toBe(`${size}`);
        for (const part of content?.bodyFrames ?? []) expect(part).toBeLessThanOrEqual(limit);
        expect(content?.bodyFrames.length).toBe(Math.ceil(size / limit) || 1);
      }
    },
  );

  it('messages of a program, encoded for the wire', async () => {
    const { broker, dial } = await door({});
    const connection = await dial();
    await connection.handshake();
    const channel = await connection.openChannel();
    const queue = await channel.queue('from-a-program');
    await channel.consume(queue, { noAck: true });
    const program = (await broker.connect()).openChannel();
    await program.bind({ source: 'amq.topic', destination: queue, destinationKind: 'queue', bindingKey: '#' });
    const properties = { headers: { n: 1, big: 5n, é: 'ü' }, contentType: 'x'.repeat(300), deliveryMode: 2 };
    const routingKey = 'ключ.'.repeat(40);
    program.publish(createMessage({ exchange: 'amq.topic', routingKey, body: 'тело', properties }));
    const delivery = await channel.delivery();
    expect(delivery.text).toBe('тело');
    expect(delivery.headers).toEqual({ n: 1, big: 5n, é: 'ü' });
    expect(delivery.properties.contentType).toBe('x'.repeat(255));
    // What does not fit a short string is cut between characters.
    expect(routingKey.startsWith(delivery.args.routingKey as string)).toBe(true);
    expect(Buffer.byteLength(delivery.args.routingKey as string)).toBe(254);
  });
});

describe('a connection that its peer has closed', () => {
  it('is left for the peer to end, who may still be writing, until the time limit', async () => {
    const { log, lines } = recordedLog();
    const connection = await (await door({}, { closeTimeoutMs: 100, log })).dial();
    await connection.handshake();
    const close = { replyCode: 200, replyText: 'goodbye' };
    await connection.control.call('connection.close', close);
    connection.write(methodFrame(0, 'connection.close', close));
    await connection.untilEnded();
    expect(lines.map(({ message }) => message)).toContain(
      'socket destroyed: the peer has not ended its socket after its connection.close',
    );
  });
});

describe('the gateway', () => {
  it('ends what is open with 320 when it is closed, also who does not answer', async () => {
    const broker = await createBroker();
    const gateway = await startAmqpGateway(broker, {
      ...{ host: '127.0.0.1', port: 0, connectionsMax: 10, handshakeTimeoutMs: 1000, log: recordedLog().log },
      closeTimeoutMs: 100,
    });
    const [address = { host: '', port: 0 }] = gateway.addresses;
    expect(gateway.addresses).toEqual([{ label: 'amqp', host: '127.0.0.1', port: expect.any(Number) }]);
    const connection = await RawConnection.connect(address);
    await connection.handshake();
    const mute = await RawConnection.connect(address);
    await mute.handshake();
    mute.setReading(false);
    const early = await RawConnection.connect(address);
    const closed = gateway.close();
    expect(await connection.control.closed()).toEqual(
      closesConnection(320, 'CONNECTION_FORCED - broker is shutting down', 'none'),
    );
    await Promise.all([closed, early.untilEnded()]);
    mute.setReading(true);
    await mute.untilEnded();
    await expect(RawConnection.connect(address)).rejects.toThrow('ECONNREFUSED');
    await broker.close();
  });
});

describe('the WebSocket door', () => {
  it('tells who comes without WebSocket how to come in, and the log who meant the AMQP port', async () => {
    const broker = await createBroker();
    const { log, lines } = recordedLog();
    const gateway = await startWebSocketGateway({
      ...{ host: '127.0.0.1', port: 0, connectionsMax: 10, handshakeTimeoutMs: 1000, log },
      ...{ doors: [amqpWebSocketDoor(broker)], origins: [], messageBytesMax: 1024 },
    });
    closing.push(() => gateway.close());
    const { port = 0 } = gateway.addresses[0] ?? {};
    expect(await (await fetch(`http://127.0.0.1:${port}`)).text()).toContain('with the subprotocol "amqp" or none');
    const socket = connect(port, '127.0.0.1');
    socket.write('AMQP\0\0\t\x01');
    expect(String(Buffer.concat(await socket.toArray()))).toMatch(/^HTTP\/1\.1 400 /);
    expect(lines).toMatchObject([
      {
        level: 'warn',
        message: 'AMQP client on the WebSocket port: give it the amqp port, or let it speak WebSocket',
      },
    ]);
  });
});

describe('NODE_DEBUG=warren:amqp', () => {
  it('prints a line for every frame in and out, and no secret', async () => {
    const script = fileURLToPath(new URL('traced-session.ts', import.meta.url));
    const run = promisify(execFile);
    const { stderr } = await run(process.execPath, ['--import', 'tsx', script], {
      env: { ...process.env, NODE_DEBUG: 'warren:amqp' },
    });
    const frames = stderr.split('\n').map((line) => line.replace(/^.*? ([<>]) /, '$1 '));
    for (const frame of [
      '> 0 connection.start ',
      '< 0 connection.start-ok ',
      '> 0 connection.tune channelMax=2047 frameMax=131072 heartbeat=60',
      '< 0 connection.open virtualHost=',
      '> 0 connection.open-ok ',
      '< 1 queue.declare ',
      '> 1 queue.declare-ok queue=',
      '< 1 basic.publish ',
      '< 1 header, 14 octets',
      '< 1 body, 5 octets',
      '> 1 basic.deliver tag=1 to c /traced 5 octets',
      '> 1 basic.ack 1 multiple=false',
      '< 1 basic.ack deliveryTag=1 multiple=false',
      '> 0 connection.close-ok',
    ]) {
      expect({ frame, lines: frames.filter((line) => line.startsWith(frame)).length }).not.toEqual({ frame, lines: 0 });
    }
    expect(stderr).not.toContain('sesame');
  });
});
