/**
 * One STOMP connection of the generator: raw socket, pre-encoded frames, and a scanner that counts the frames that come
 * in by their NULs, which no head and none of the bodies here contains. A link receives one kind of frame only once its
 * flow has begun: receipts, or messages.
 */
import { createConnection, type Socket } from 'node:net';
import type { Endpoint } from '../peers/peer.ts';

/** Octets taken from the kernel at once; a read calls back before the next read of any socket overwrites it. */
const READ_BYTES = 256 * 1024;
const NUL = 0;
const readBuffer = Buffer.allocUnsafe(READ_BYTES);

/** The octets of a frame, its headers written as they are. */
export function stompFrame(command: string, headers: { readonly [name: string]: string }, body = ''): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  return Buffer.from(`${command}\n${lines.join('')}\n${body}\0`, 'latin1');
}

export class StompLink {
  readonly socket: Socket;
  /** Frames received since the flow began. */
  frames = 0;
  /** Called after each received chunk has been counted. */
  onChunk: (() => void) | undefined;
  /** The octets of the first frame counted, for a flow that has to look at one. */
  first = '';
  #waiting: ((frame: string) => void) | undefined;
  #text = '';
  #closing = false;

  private constructor({ host, stompPort: port }: Endpoint) {
    const onread = { buffer: readBuffer, callback: (size: number) => this.#onRead(size) };
    this.socket = createConnection({ host, port, noDelay: true, onread });
    this.socket.on('error', (error) => {
      if (!this.#closing) throw error;
    });
    this.socket.on('close', () => {
      if (!this.#closing) throw new Error('the broker closed the socket');
    });
  }

  /** Connects and logs in. */
  static async open(endpoint: Endpoint): Promise<StompLink> {
    const link = new StompLink(endpoint);
    const { username: login, password: passcode, vhost: host } = endpoint;
    await link.call(stompFrame('CONNECT', { 'accept-version': '1.2', host, login, passcode }));
    return link;
  }

  /** Writes a frame and resolves to the text of the one that answers it; for set-up, before anything is counted. */
  call(octets: Buffer): Promise<string> {
    const answered = new Promise<string>((resolve) => {
      this.#waiting = resolve;
    });
    this.socket.write(octets);
    return answered;
  }

  close(): void {
    this.#closing = true;
    this.socket.destroy();
  }

  #onRead(size: number): boolean {
    if (this.#waiting !== undefined) this.#onText(readBuffer.toString('latin1', 0, size));
    else this.#count(size);
    return true;
  }

  #onText(text: string): void {
    this.#text += text;
    if (!this.#text.includes('\0')) return;
    const resolve = this.#waiting;
    this.#waiting = undefined;
    resolve?.(refusal(this.#text));
    this.#text = '';
  }

  #count(size: number): void {
    if (this.frames === 0) this.first += refusal(readBuffer.toString('latin1', 0, Math.min(size, 1024)));
    let frames = 0;
    for (let at = readBuffer.indexOf(NUL); at >= 0 && at < size; at = readBuffer.indexOf(NUL, at + 1)) frames += 1;
    this.frames += frames;
    if (this.onChunk !== undefined) this.onChunk();
  }
}

/** Throws when the text is an ERROR. */
function refusal(text: string): string {
  if (text.startsWith('ERROR')) throw new Error(`the broker refused: ${text}`);
  return text;
}
