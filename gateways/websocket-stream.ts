/**
 * A WebSocket as a stream of octets, so that a door need not know whether it speaks over TCP or through a browser.
 * Binary messages in and out; their boundaries mean nothing. One write is one message; writes that pile up behind a slow
 * peer travel together. A text message ends the connection (1003), unless the door's protocol is text: then its octets
 * are taken like others, and a peer that writes text is answered in text, where what is to be said is UTF-8. [RFC 6455]
 */
import { isUtf8 } from 'node:buffer';
import { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';

/** Close codes [RFC 6455 §7.4.1]. */
const CLOSE_NORMAL = 1000;
const CLOSE_UNSUPPORTED_DATA = 1003;

/** The writes that travel as one message are at most this many octets together, unless a single one is larger. */
const MERGED_BYTES_MAX = 64 * 1024;

type WriteCallback = (error?: Error | null) => void;

export class WebSocketStream {
  /** Gives and takes the octets; its lifetime is that of the WebSocket. */
  readonly duplex: Duplex;
  readonly #webSocket: WebSocket;
  /** After a fault of the peer, `ws` closes with the code that names it; cutting the socket would lose that. */
  #closing = false;

  readonly #takesText: boolean;
  /** The peer's last message was text. */
  #isText = false;

  /** `webSocket` must be open and must not be used by anybody else from now on. `takesText`: text messages will do too. */
  constructor(webSocket: WebSocket, takesText = false) {
    this.#webSocket = webSocket;
    this.#takesText = takesText;
    this.duplex = new Duplex({
      allowHalfOpen: false,
      read: () => this.#read(),
      write: (chunk: Buffer, _encoding, callback) => this.#send(chunk, callback),
      writev: (entries, callback) => this.#writeAll(entries, callback),
      final: (callback) => this.#final(callback),
      destroy: (error, callback) => this.#destroy(error, callback),
    });
    webSocket.on('message', (data, isBinary) => this.#onMessage(data, isBinary));
    webSocket.once('error', (error) => {
      this.#closing = true;
      this.duplex.destroy(error);
    });
    webSocket.once('close', () => {
      // Whoever has said goodbye may have stopped reading; an end that nobody reads would keep the stream for ever.
      if (this.duplex.writableEnded) this.duplex.destroy();
      else this.duplex.push(null);
    });
  }

  /** Says goodbye with a close code [RFC 6455 §7.4] and takes no more input. */
  closeWith(code: number, reason: string): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#webSocket.close(code, reason);
    this.duplex.push(null);
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (this.#closing || this.duplex.destroyed) return;
    this.#isText = !isBinary;
    if (!isBinary && !this.#takesText) this.closeWith(CLOSE_UNSUPPORTED_DATA, 'binary messages only');
    else if (!this.duplex.push(data)) this.#webSocket.pause();
  }

  /** Text that is no UTF-8, or is cut inside a letter, would end the connection: it travels as a binary message. */
  #send(octets: Buffer, done?: WriteCallback): void {
    this.#webSocket.send(octets, { binary: !(this.#isText && isUtf8(octets)) }, done);
  }

  #read(): void {
    if (this.#webSocket.isPaused) this.#webSocket.resume();
  }

  #writeAll(entries: readonly { readonly chunk: Buffer }[], callback: WriteCallback): void {
    let batch: Buffer[] = [];
    let batchBytes = 0;
    const send = (done?: WriteCallback): void => this.#send(Buffer.concat(batch, batchBytes), done);
    for (const { chunk } of entries) {
      if (batchBytes > 0 && batchBytes + chunk.length > MERGED_BYTES_MAX) {
        send();
        batch = [];
        batchBytes = 0;
      }
      batch.push(chunk);
      batchBytes += chunk.length;
    }
    send(callback);
  }

  #final(callback: WriteCallback): void {
    if (!this.#closing) this.#webSocket.close(CLOSE_NORMAL);
    callback();
  }

  #destroy(error: Error | null, callback: WriteCallback): void {
    if (!this.#closing) this.#webSocket.terminate();
    callback(error);
  }
}
