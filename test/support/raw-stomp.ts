/**
 * A STOMP client that sends exactly what a test says and reads frames by itself: it shares no code with the door that it
 * tests. Frames come out in order, one for each `next()`.
 */
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

const PATIENCE_MS = 5000;

export interface StompFrame {
  readonly command: string;
  readonly headers: { readonly [name: string]: string };
  /** As latin1, so that octets can be compared. */
  readonly body: string;
  /** Header lines as they came, escapes and all. */
  readonly lines: readonly string[];
}

export interface Headers {
  readonly [name: string]: string | number | boolean;
}

/** The octets of a frame, headers written as they are. */
export function stompFrame(command: string, headers: Headers = {}, body: string | Buffer = ''): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  return Buffer.concat([Buffer.from(`${command}\n${lines.join('')}\n`), Buffer.from(body), Buffer.from([0])]);
}

function unescaped(text: string): string {
  return text.replace(/\\([rnc\\])/g, (_all, letter: string) => ({ r: '\r', n: '\n', c: ':' })[letter] ?? '\\');
}

export class RawStomp {
  readonly socket: Duplex;
  /** What has been received since the last whole frame. */
  received = Buffer.alloc(0);
  /** Line feeds between frames. */
  heartBeats = 0;
  /** The peer has ended his side. */
  ended = false;
  closed = false;
  #at = 0;
  readonly #frames: StompFrame[] = [];
  #wake: (() => void) | undefined;

  constructor(socket: Duplex) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      while (this.#read());
      this.received = this.received.subarray(this.#at);
      this.#at = 0;
      this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('end', () => {
      this.ended = true;
      this.#wake?.();
    });
    socket.on('close', () => {
      this.ended = true;
      this.closed = true;
      this.#wake?.();
    });
  }

  static open(port: number, host = '127.0.0.1'): Promise<RawStomp> {
    return new Promise((resolve, reject) => {
      const socket: Socket = connect({ port, host, allowHalfOpen: true, noDelay: true }, () =>
        resolve(new RawStomp(socket)),
      );
      socket.once('error', reject);
    });
  }

  write(octets: string | Buffer): void {
    this.socket.write(octets);
  }

  send(command: string, headers: Headers = {}, body: string | Buffer = ''): void {
    this.write(stompFrame(command, headers, body));
  }

  /** CONNECT; resolves to the answer, whatever it is. */
  async login(headers: Headers = {}): Promise<StompFrame> {
    this.send('CONNECT', { 'accept-version': '1.2', host: '/', login: 'guest', passcode: 'guest', ...headers });
    return this.next();
  }

  /** Sends a frame with a receipt and resolves to the answer. */
  async call(command: string, headers: Headers = {}, body: string | Buffer = ''): Promise<StompFrame> {
    calls += 1;
    const receipt = `call-${calls}`;
    this.send(command, { ...headers, receipt }, body);
    const kept: StompFrame[] = [];
    for (;;) {
      const frame = await this.next();
      if (frame.headers['receipt-id'] === receipt || frame.command === 'ERROR') {
        this.#frames.unshift(...kept);
        return frame;
      }
      kept.push(frame);
    }
  }

  /** The next frame; rejects when the peer ends first, or after five seconds. */
  async next(): Promise<StompFrame> {
    const frame = await this.#wait(() => this.#frames.shift());
    if (frame === undefined) throw new Error(`ended after: ${JSON.stringify(this.received.toString())}`);
    return frame;
  }

  /** The next frames, as many as asked for. */
  async take(count: number): Promise<StompFrame[]> {
    const frames: StompFrame[] = [];
    while (frames.length < count) frames.push(await this.next());
    return frames;
  }

  /** Frames that have come and were not taken. */
  get waiting(): readonly StompFrame[] {
    return this.#frames;
  }

  /** Resolves when the peer has ended his side of the socket. */
  async end(): Promise<void> {
    await this.#wait(() => (this.ended ? true : undefined));
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #wait<T>(take: () => T | undefined): Promise<T | undefined> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const taken = take();
      if (taken !== undefined || this.ended) return taken;
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`nothing came after: ${JSON.stringify(this.received.toString())}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Reads one frame if all of it is there. */
  #read(): boolean {
    const octets = this.received;
    while (octets[this.#at] === 0x0a) {
      this.#at += 1;
      this.heartBeats += 1;
    }
    const head = octets.indexOf('\n\n', this.#at);
    if (head < 0) return false;
    const [command = '', ...lines] = octets.toString('utf8', this.#at, head).split('\n');
    const isPlain = command === 'CONNECTED';
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const colon = line.indexOf(':');
      const [name, value] = [line.slice(0, colon), line.slice(colon + 1)];
      headers[isPlain ? name : unescaped(name)] ??= isPlain ? value : unescaped(value);
    }
    const start = head + 2;
    const end = 'content-length' in headers ? start + Number(headers['content-length']) : octets.indexOf(0, start);
    if (end < 0 || end >= octets.length) return false;
    if (octets[end] !== 0) throw new Error('a frame without NUL');
    this.#frames.push({ command, headers, body: octets.toString('latin1', start, end), lines });
    this.#at = end + 1;
    return true;
  }
}

let calls = 0;
