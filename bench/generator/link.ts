/**
 * One AMQP connection with channel 1 open: raw socket, reads into one buffer shared by all links of the process. Set-up
 * verbs are promises; a flow writes pre-encoded octets and reads the scanner's counts. Whatever goes wrong on a link
 * throws out of the socket's callback and so ends the generator: a broken run has no figures.
 */
import { createConnection, type Socket } from 'node:net';
import type { Endpoint } from '../peers/peer.ts';
import * as wire from './frames.ts';
import { METHOD } from './frames.ts';
import { FrameScanner } from './scanner.ts';

/** Octets taken from the kernel at once; a read calls back before the next read of any socket overwrites it. */
const READ_BYTES = 256 * 1024;
/** Octets; what RabbitMQ offers. */
const FRAME_MAX = 131_072;

const readBuffer = Buffer.allocUnsafe(READ_BYTES);

interface Expectation {
  readonly method: number;
  readonly resolve: (payload: Buffer) => void;
}

export class Link {
  readonly socket: Socket;
  readonly scanner = new FrameScanner((method, payload) => this.#onMethod(method, payload));
  /** Called after each received chunk has been scanned. */
  onChunk: (() => void) | undefined;
  readonly #expected: Expectation[] = [];
  #closing = false;

  private constructor(endpoint: Endpoint) {
    this.socket = createConnection({
      host: endpoint.host,
      port: endpoint.port,
      noDelay: true,
      onread: { buffer: readBuffer, callback: (size) => this.#onRead(size) },
    });
    this.socket.on('error', (error) => {
      if (!this.#closing) throw error;
    });
    this.socket.on('close', () => {
      if (!this.#closing) throw new Error('the broker closed the socket');
    });
  }

  /** Connects, logs in and opens channel 1. */
  static async open(endpoint: Endpoint): Promise<Link> {
    const link = new Link(endpoint);
    const started = link.#expect(METHOD.connectionStart);
    link.socket.write(wire.PROTOCOL_HEADER);
    await started;
    const response = `\0${endpoint.username}\0${endpoint.password}`;
    const startOk = [wire.EMPTY_TABLE, wire.shortString('PLAIN'), wire.longString(response), wire.shortString('en_US')];
    const tuned = link.#expect(METHOD.connectionTune);
    link.socket.write(wire.methodFrame(0, METHOD.connectionStartOk, ...startOk));
    const tune = await tuned;
    const frameMax = Math.min(tune.readUInt32BE(2) || FRAME_MAX, FRAME_MAX);
    const opened = link.#expect(METHOD.connectionOpenOk);
    const tuneOk = [wire.short(tune.readUInt16BE(0)), wire.long(frameMax), wire.short(0)];
    const open = [wire.shortString(endpoint.vhost), wire.shortString(''), wire.octet(0)];
    link.socket.write(
      Buffer.concat([
        wire.methodFrame(0, METHOD.connectionTuneOk, ...tuneOk),
        wire.methodFrame(0, METHOD.connectionOpen, ...open),
      ]),
    );
    await opened;
    await link.#call(METHOD.channelOpen, METHOD.channelOpenOk, wire.shortString(''));
    return link;
  }

  /** Declares an exchange that is not durable. */
  async declareExchange(exchange: string, type: string): Promise<void> {
    const args = [wire.short(0), wire.shortString(exchange), wire.shortString(type), wire.octet(0), wire.EMPTY_TABLE];
    await this.#call(METHOD.exchangeDeclare, METHOD.exchangeDeclareOk, ...args);
  }

  async deleteExchange(exchange: string): Promise<void> {
    const args = [wire.short(0), wire.shortString(exchange), wire.octet(0)];
    await this.#call(METHOD.exchangeDelete, METHOD.exchangeDeleteOk, ...args);
  }

  /** Resolves to the number of ready messages. */
  async declareQueue(queue: string, options: { durable?: boolean; passive?: boolean } = {}): Promise<number> {
    const flags = (options.passive ? 1 : 0) | (options.durable ? 2 : 0);
    const args = [wire.short(0), wire.shortString(queue), wire.octet(flags), wire.EMPTY_TABLE];
    const reply = await this.#call(METHOD.queueDeclare, METHOD.queueDeclareOk, ...args);
    return reply.readUInt32BE(1 + reply.readUInt8(0));
  }

  async deleteQueue(queue: string): Promise<void> {
    const args = [wire.short(0), wire.shortString(queue), wire.octet(0)];
    await this.#call(METHOD.queueDelete, METHOD.queueDeleteOk, ...args);
  }

  async bindQueue(queue: string, exchange: string, bindingKey: string): Promise<void> {
    const names = [wire.shortString(queue), wire.shortString(exchange), wire.shortString(bindingKey)];
    const args = [wire.short(0), ...names, wire.octet(0), wire.EMPTY_TABLE];
    await this.#call(METHOD.queueBind, METHOD.queueBindOk, ...args);
  }

  /** Prefetch of each consumer made from now on. */
  async prefetch(count: number): Promise<void> {
    await this.#call(METHOD.basicQos, METHOD.basicQosOk, wire.long(0), wire.short(count), wire.octet(0));
  }

  /** Starts a consumer; its deliveries are counted in `scanner.tally`. */
  async consume(queue: string, noAck: boolean): Promise<void> {
    const flags = noAck ? 2 : 0;
    const args = [wire.short(0), wire.shortString(queue), wire.shortString('c'), wire.octet(flags), wire.EMPTY_TABLE];
    await this.#call(METHOD.basicConsume, METHOD.basicConsumeOk, ...args);
  }

  /** From now on `scanner.confirms` counts. */
  async confirmSelect(): Promise<void> {
    await this.#call(METHOD.confirmSelect, METHOD.confirmSelectOk, wire.octet(0));
  }

  /** Says goodbye and resolves when the broker has answered. */
  async close(): Promise<void> {
    this.#closing = true;
    const closed = this.#expect(METHOD.connectionCloseOk);
    const args = [wire.short(200), wire.shortString('bye'), wire.short(0), wire.short(0)];
    this.socket.write(wire.methodFrame(0, METHOD.connectionClose, ...args));
    await closed;
    this.socket.destroy();
  }

  #call(method: number, reply: number, ...args: Buffer[]): Promise<Buffer> {
    const answered = this.#expect(reply);
    this.socket.write(wire.methodFrame(1, method, ...args));
    return answered;
  }

  #expect(method: number): Promise<Buffer> {
    return new Promise((resolve) => this.#expected.push({ method, resolve }));
  }

  #onRead(size: number): boolean {
    this.scanner.scan(readBuffer, size);
    if (this.onChunk !== undefined) this.onChunk();
    return true;
  }

  #onMethod(method: number, payload: Buffer): void {
    if (method === METHOD.connectionClose || method === METHOD.channelClose) {
      throw new Error(`the broker closed: ${payload.subarray(3, 3 + payload.readUInt8(2)).toString()}`);
    }
    const next = this.#expected.shift();
    if (next === undefined || next.method !== method) {
      throw new Error(`unexpected method ${method >>> 16}.${method & 0xffff}`);
    }
    // The payload lies in the shared read buffer, and whoever awaits it runs later.
    next.resolve(Buffer.from(payload));
  }
}
