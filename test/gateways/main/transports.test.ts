import { once } from 'node:events';
import { copyFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect as connectTcp, createServer, type Server } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AMQPWebSocketClient } from '@cloudamqp/amqp-client';
import { connect, credentials } from 'amqplib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { issue, type KeyPair, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { proxyV2 } from '../../support/proxy-header.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../../support/warren-process.ts';

const ended: (() => unknown)[] = [];

afterEach(() => Promise.all(ended.splice(0).map((end) => end())));

async function start(options?: WarrenProcessOptions): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start(options);
  ended.push(() => warren.stop());
  return warren;
}

describe('AMQP over TLS', () => {
  let authority: KeyPair;
  let server: KeyPair;
  let files: Record<'certificate' | 'key' | 'ca', string>;
  let flags: readonly string[];

  beforeEach(async () => {
    authority ??= await makeAuthority('Test CA');
    server ??= await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
    files = await writePems({ certificate: server.cert, key: server.key, ca: authority.cert });
    const { certificate, key, ca } = files;
    const tls = [`--tls-certificate-file=${certificate}`, `--tls-key-file=${key}`, `--tls-ca-file=${ca}`];
    flags = ['--amqps-port=0', '--https-port=0', '--tls-verify-client=optional', ...tls];
  });

  /** The name in the certificate that the broker shows now. */
  async function shownName(port: number): Promise<string | undefined> {
    const socket = connectTls({ host: '127.0.0.1', servername: 'localhost', port, ca: authority.cert });
    await once(socket, 'secureConnect');
    const subject = socket.getPeerX509Certificate()?.subject;
    socket.destroy();
    return subject;
  }

  it('works with a password', async () => {
    const warren = await start({ flags });
    const url = `amqps://localhost:${warren.door('amqps').port}`;
    const connection = await connect(url, { ca: [authority.cert] });
    await connection.createChannel();
    await connection.close();
  });

  it('works with the name in a certificate in place of a password', async () => {
    const warren = await start({ flags, environment: { RABBITMQ_DEFAULT_USER: 'alice', RABBITMQ_DEFAULT_PASS: 'x' } });
    const url = `amqps://localhost:${warren.door('amqps').port}`;
    const alice = await issue(authority, [{ name: 'commonName', value: 'alice' }]);
    const external = { ca: [authority.cert], credentials: credentials.external() };
    const connection = await connect(url, { ...external, cert: alice.cert, key: alice.key });
    const channel = await connection.createChannel();
    await channel.assertQueue('of-alice');
    await connection.close();
    const mallory = await issue(authority, [{ name: 'commonName', value: 'mallory' }]);
    await expect(connect(url, { ...external, cert: mallory.cert, key: mallory.key })).rejects.toThrow('403');
    await eventually(() => expect(warren.stderr).toContain('mallory'));
  });

  it('gets the new certificate at SIGHUP while connections stay, and keeps the old one when the new is bad', async () => {
    const warren = await start({ flags });
    const { port } = warren.door('amqps');
    const connection = await connect(`amqps://localhost:${port}`, { ca: [authority.cert] });
    const channel = await connection.createChannel();
    expect(await shownName(port)).toBe('CN=localhost');

    const renewed = await issue(authority, [{ name: 'commonName', value: 'renewed' }]);
    await writeFile(files.certificate, renewed.cert);
    await writeFile(files.key, renewed.key);
    warren.child.kill('SIGHUP');
    await eventually(async () => expect(await shownName(port)).toBe('CN=renewed'));

    await copyFile(files.ca, files.certificate);
    warren.child.kill('SIGHUP');
    await eventually(() =>
      expect(warren.log.at(-1)).toMatchObject({
        level: 50,
        msg: expect.stringContaining('the old TLS certificate stays'),
      }),
    );
    expect(await shownName(port)).toBe('CN=renewed');
    await channel.assertQueue('still-here');
    await connection.close();
  });

  it('reports its doors with commands to try them', async () => {
    const warren = await start({ flags });
    expect(warren.door('amqps').tryCommand).toMatch(/^openssl s_client -brief -connect 127\.0\.0\.1:\d+$/);
    expect(warren.door('wss').tryCommand).toMatch(/^curl --insecure https:\/\/127\.0\.0\.1:\d+\/$/);
  });

  it('keeps the broker from starting with files that cannot be used', async () => {
    const warren = new WarrenProcess({ flags: [...flags, '--tls-key-file=/nowhere/key.pem'] });
    expect((await warren.exited).code).toBe(1);
    expect(warren.stderr).toContain('cannot read the TLS key file /nowhere/key.pem');
  });
});

describe('AMQP behind a proxy', () => {
  /** A proxy that says of every connection that it comes from 192.0.2.7. */
  async function startProxy(port: number, header: Buffer): Promise<number> {
    const proxy: Server = createServer((client) => {
      const upstream = connectTcp(port, '127.0.0.1');
      upstream.write(header);
      client.on('error', () => upstream.destroy()).pipe(upstream);
      upstream.on('error', () => client.destroy()).pipe(client);
    }).listen(0, '127.0.0.1');
    ended.push(() => proxy.close());
    await once(proxy, 'listening');
    return (proxy.address() as AddressInfo).port;
  }

  it.each([
    ['version 1', Buffer.from('PROXY TCP4 192.0.2.7 198.51.100.1 40212 5672\r\n')],
    ['version 2', proxyV2(0x21, 0x11, Buffer.from([192, 0, 2, 7, 198, 51, 100, 1, 0x9d, 0x14, 0x16, 0x28]))],
  ])('goes by the address in the PROXY header: %s', async (_name, header) => {
    const flags = ['--proxy-protocol-sources=127.0.0.0/8', '--loopback-users=none', '--log-level=debug'];
    const warren = await start({ flags });
    const connection = await connect(`amqp://127.0.0.1:${await startProxy(warren.door('amqp').port, header)}`);
    await connection.close();
    await eventually(() => expect(warren.stderr).toContain('192.0.2.7:40212 -> 198.51.100.1:5672'));
  });

  it('holds to this machine who may come from here only, wherever the proxy is', async () => {
    const warren = await start({ flags: ['--proxy-protocol-sources=127.0.0.0/8'] });
    const header = Buffer.from('PROXY TCP4 192.0.2.7 198.51.100.1 40212 5672\r\n');
    const refused = connect(`amqp://127.0.0.1:${await startProxy(warren.door('amqp').port, header)}`);
    // The refusal reaches the client later only, so that nobody can try many passwords.
    refused.catch(() => {});
    await eventually(() =>
      expect(warren.log).toMatchObject([{ level: 40, peer: '192.0.2.7:40212 -> 198.51.100.1:5672' }]),
    );
  });
});

describe('AMQP over WebSocket', () => {
  it('works with a client made for browsers, which asks for no subprotocol', async () => {
    const warren = await start();
    Object.assign(globalThis, { WebSocket: globalThis.WebSocket ?? WebSocket }); // Node has one from 22 on.
    const client = new AMQPWebSocketClient(`ws://127.0.0.1:${warren.door('ws').port}/ws/amqp`);
    const connection = await client.connect();
    const channel = await connection.channel();
    const { name } = await channel.queueDeclare('', { exclusive: true });
    const received: string[] = [];
    await channel.basicConsume(name, { noAck: true }, (message) => void received.push(message.bodyString() ?? ''));
    const large = 'x'.repeat(300_000);
    await channel.basicPublish('', name, 'small');
    await channel.basicPublish('', name, large);
    await eventually(() => expect(received).toEqual(['small', large]));
    await connection.close();
  });
});
