/**
 * A small AMQP 0-9-1 client for tests that must see every frame: order, class and method ids, reply texts, exact types,
 * and that must be able to send what no well-behaved client sends.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type Arguments, encodeMethod, Reader } from './amqp-wire.ts';
import { ClosedByBroker, PATIENCE_MS, RawChannel, type Refusal, refusalOf } from './raw-channel.ts';
import { FrameReader, frame, type Incoming } from './raw-frames.ts';

/** `AMQP` and protocol 0-9-1. */
export const PROTOCOL_HEADER = Buffer.from('AMQP\x00\x00\x09\x01', 'latin1');

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
}

export interface HandshakeOptions {
  readonly vhost?: string;
  readonly username?: string;
  readonly password?: string;
  /** SASL mechanism and its response, in place of PLAIN with the name and password above. */
  readonly mechanism?: string;
  readonly response?: string | Uint8Array;
  /** Client capabilities, e.g. `{ 'connection.blocked': true }`. */
  readonly capabilities?: { readonly [name: string]: boolean };
  /** Values of tune-ok; default: no heartbeat, and channel_max and frame_max as the broker proposes. */
  readonly heartbeat?: number;
  readonly frameMax?: number;
  readonly channelMax?: number;
}

export class RawConnection {
  readonly #socket: Socket;
  readonly #channels = new Map<number, RawChannel>();
  readonly #reader: FrameReader;
  #failure: Error | undefined;
  #closedBy: Refusal | undefined;
  /** Largest frame this client sends, as agreed in tune-ok. */
  frameMax = 131_072;
  /** Heartbeat frames received so far. */
  heartbeats = 0;
  /** Octets received that were no frames: the broker's protocol header. */
  protocolHeader: Buffer | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#reader = new FrameReader({
      onMethod: (incoming) => this.#receive(incoming),
      onHeartbeat: () => {
        this.heartbeats += 1;
      },
      onProtocolHeader: (octets) => {
        this.protocolHeader = octets;
      },
    });
    socket.on('data', (chunk) => {
      try {
        this.#reader.push(chunk);
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
        socket.destroy();
      }
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the broker closed the socket')));
  }

  /** Opens a TCP connection; nothing is sent yet. */
  static async connect(options: ConnectOptions): Promise<RawConnection> {
    const socket = connect({ host: options.host, port: options.port });
    await once(socket, 'connect');
    socket.setNoDelay(true);
    return new RawConnection(socket);
  }

  /** Local port: tells connections apart in lists. */
  get localPort(): number {
    return this.#socket.localPort ?? 0;
  }

  /** True once the socket is gone, whoever closed it. */
  get ended(): boolean {
    return this.#socket.closed;
  }

  /** How the broker closed the connection; undefined as long as it has not. */
  get closedBy(): Refusal | undefined {
    return this.#closedBy;
  }

  /** Throws when nothing more can come: `ClosedByBroker` after connection.close, otherwise what befell the socket. */
  throwIfClosed(): void {
    if (this.#closedBy !== undefined) throw new ClosedByBroker(this.#closedBy);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Channel 0 carries the methods of the connection itself. */
  get control(): RawChannel {
    return this.channel(0);
  }

  /** The channel object of that number; sends nothing. */
  channel(number: number): RawChannel {
    let channel = this.#channels.get(number);
    if (channel === undefined) {
      channel = new RawChannel(this, number);
      this.#channels.set(number, channel);
    }
    return channel;
  }

  /** Sends channel.open and waits for its answer. */
  async openChannel(number = this.#nextNumber()): Promise<RawChannel> {
    const channel = this.channel(number);
    await channel.call('channel.open');
    return channel;
  }

  #nextNumber(): number {
    let number = 1;
    while (this.#channels.has(number)) number += 1;
    return number;
  }

  /** The whole handshake up to open-ok. Answers what the broker said in start and tune. */
  async handshake(options: HandshakeOptions = {}): Promise<{ start: Arguments; tune: Arguments }> {
    const start = await this.login(options);
    const tune = await this.control.expect('connection.tune');
    this.tuneOk(tune, options);
    await this.control.call('connection.open', { virtualHost: options.vhost ?? '/' });
    return { start, tune: tune.args };
  }

  /** Protocol header, start, start-ok; answers the arguments of start. */
  async login(options: HandshakeOptions = {}): Promise<Arguments> {
    const { username = 'guest', password = 'guest', mechanism = 'PLAIN' } = options;
    this.write(PROTOCOL_HEADER);
    const start = await this.control.expect('connection.start');
    this.control.send('connection.start-ok', {
      clientProperties: { product: 'raw test client', capabilities: options.capabilities ?? {} },
      mechanism,
      response: options.response ?? `\0${username}\0${password}`,
      locale: 'en_US',
    });
    return start.args;
  }

  /** Sends tune-ok, by default accepting what `tune` proposed but without heartbeats. */
  tuneOk(tune: Incoming, options: HandshakeOptions = {}): void {
    const channelMax = options.channelMax ?? (tune.args.channelMax as number);
    const frameMax = options.frameMax ?? (tune.args.frameMax as number);
    if (frameMax > 0) this.frameMax = frameMax;
    this.control.send('connection.tune-ok', { channelMax, frameMax, heartbeat: options.heartbeat ?? 0 });
  }

  /** Sends octets as they are. */
  write(octets: Uint8Array): void {
    this.#socket.write(octets);
  }

  /** One frame. */
  writeFrame(type: number, channel: number, payload: Uint8Array): void {
    this.write(frame(type, channel, payload));
  }

  /** Resolves when the broker has closed the socket. */
  async untilEnded(timeoutMs = PATIENCE_MS): Promise<void> {
    await untilClosed(this.#socket, timeoutMs, () => '');
  }

  /** Orderly goodbye. */
  async close(): Promise<void> {
    if (this.#failure === undefined && this.#closedBy === undefined) {
      await this.control.call('connection.close', { replyCode: 200, replyText: 'goodbye' });
    }
    this.destroy();
  }

  /** Drops the socket without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Stops (or resumes) reading from the socket: a client that does not keep up. */
  setReading(reading: boolean): void {
    if (reading) this.#socket.resume();
    else this.#socket.pause();
  }

  #receive(incoming: Incoming): void {
    if (incoming.name === 'connection.close') {
      this.#closedBy = refusalOf(incoming);
      this.control.send('connection.close-ok');
      this.#wakeAll();
    } else this.channel(incoming.channel).receive(incoming);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const channel of this.#channels.values()) channel.wake();
  }
}

/** Response of the AMQPLAIN mechanism: a field table without its length. */
export function amqplainResponse(username: string, password: string): Buffer {
  const method = encodeMethod('connection.start-ok', { clientProperties: { LOGIN: username, PASSWORD: password } });
  return new Reader(method.subarray(4)).longString();
}

/** Sends `octets` on a new socket and answers all that comes back until the broker closes it. */
export async function sendAndReadAll(options: ConnectOptions, octets: Uint8Array): Promise<Buffer> {
  const socket = connect({ host: options.host, port: options.port });
  const received: Buffer[] = [];
  socket.on('data', (chunk) => received.push(chunk));
  socket.on('error', () => socket.destroy());
  socket.write(octets);
  const all = (): Buffer => Buffer.concat(received);
  await untilClosed(socket, PATIENCE_MS, () => `; it said: ${all().toString('latin1')}`);
  return all();
}

function untilClosed(socket: Socket, timeoutMs: number, remark: () => string): Promise<void> {
  if (socket.closed) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`the broker did not close the socket within ${timeoutMs} ms${remark()}`)),
      timeoutMs,
    );
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
