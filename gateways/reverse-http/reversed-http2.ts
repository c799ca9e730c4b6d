/**
 * A reversed HTTP/2 connection: the peer opened it, and `node:http2` is the client on it. As many requests at a time as
 * the application takes streams. A stream that it refuses, or that its GOAWAY leaves out, was not served and goes to
 * somebody else whatever its method. [RFC 9113 §8.7]
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Crew } from './crew.ts';
import type { Errand, ErrandRequest } from './errand.ts';
import { HttpError } from './http-error.ts';
import {
  endToEndHeaders,
  headerValue,
  type RawHeaders,
  type RequestHead,
  type ResponseHead,
  trailerFields,
} from './http-message.ts';
import { attempt, REPLACED, type ReversedConnection, type ReversedOptions } from './reversed-http1.ts';
import { acceptOf } from './tunnel.ts';

const NOTHING = Buffer.alloc(0);

const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = constants;

/** `:authority` says it. */
const NOT_SENT: ReadonlySet<string> = new Set([...REPLACED, 'host']);

export class ReversedHttp2 implements ReversedConnection {
  readonly streams = true;
  readonly #session: ClientHttp2Session;
  readonly #options: ReversedOptions;
  #crew: Crew | undefined;
  #leaving = false;
  /** Requests that it has. */
  #streams = 0;
  /** When it last answered a PING, in milliseconds of `performance.now()`; it has just said its settings. */
  #aliveAt = performance.now();
  #pinging = false;
  #slots: number | undefined;

  /** Takes the socket over. `onEnd` is called once, when it is gone. */
  constructor(socket: Duplex, options: ReversedOptions, onEnd: () => void) {
    this.#options = options;
    socket.on('error', () => {});
    this.#session = connect('http://localhost', {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    const session = this.#session;
    session.on('error', () => {});
    const timer = setTimeout(() => session.destroy(), options.closeTimeoutMs);
    session.on('remoteSettings', ({ maxConcurrentStreams = options.streamsMax }) => {
      clearTimeout(timer);
      this.#slots = Math.min(maxConcurrentStreams, options.streamsMax);
      if (this.#crew !== undefined) this.#enter(this.#crew, this.#slots);
    });
    session.on('goaway', () => this.#leave());
    socket.once('close', () => {
      clearTimeout(timer);
      session.destroy();
      this.#leave();
      onEnd();
    });
  }

  /** By an extended CONNECT, if the application has said that it takes such. [RFC 8441] */
  changesTo(protocol: string): boolean {
    return protocol.toLowerCase() === 'websocket' && this.#session.remoteSettings?.enableConnectProtocol === true;
  }

  enlist(crew: Crew): void {
    this.#crew = crew;
    // Not before it has said how many streams it takes.
    if (this.#slots !== undefined) this.#enter(crew, this.#slots);
  }

  serve(errand: Errand): void {
    errand.request().then(
      (request) => this.#send(errand, request),
      (error: unknown) => {
        if (!(error instanceof HttpError)) throw error;
        errand.fail(400, error.message);
      },
    );
  }

  dismiss(): void {
    this.#leave();
    if (!this.#session.closed) this.#session.close();
    this.#endWhenIdle();
  }

  /**
   * Behind a router that has forgotten it, a connection swallows requests for as long as TCP hopes; so one that has been
   * silent for long is asked, together with the next request, whether it is there.
   */
  #askForLife(): void {
    const { pongTimeoutMs } = this.#options;
    if (this.#pinging || performance.now() - this.#aliveAt < pongTimeoutMs) return;
    const timer = setTimeout(() => this.#session.destroy(), pongTimeoutMs).unref();
    this.#pinging = true;
    const onPong = (error: Error | null): void => {
      clearTimeout(timer);
      this.#pinging = false;
      if (error === null) this.#aliveAt = performance.now();
    };
    if (attempt(() => this.#session.ping(onPong)) !== true) onPong(new Error('no PING could be sent'));
  }

  /** An application that does not end the connection when it has nothing to do any more is left. */
  #endWhenIdle(): void {
    if (!this.#session.closed || this.#streams > 0) return;
    setTimeout(() => this.#session.destroy(), this.#options.closeTimeoutMs).unref();
  }

  #enter(crew: Crew, slots: number): void {
    if (this.#leaving || this.#session.destroyed) return;
    if (crew.has(this)) crew.resize(this, slots);
    else crew.enter(this, slots);
  }

  #leave(): void {
    this.#leaving = true;
    this.#crew?.leave(this);
  }

  #send(errand: Errand, request: ErrandRequest): void {
    if (errand.settled) return;
    if (this.#session.destroyed || this.#session.closed) {
      errand.lost(false);
      return;
    }
    this.#askForLife();
    const { passage } = errand.requestor;
    if (passage !== undefined) {
      this.#connect(errand, request.head);
      return;
    }
    const { head, body, trailers = () => [] } = request;
    const hasNoBody = Buffer.isBuffer(body) && body.length === 0;
    const fields = fieldsOf(head, errand.requestingClient);
    const hasTrailers = !Buffer.isBuffer(body) || trailers().length > 0;
    const settings = { endStream: hasNoBody, waitForTrailers: hasTrailers };
    const stream = attempt(() => this.#session.request(fields, settings));
    if (stream === undefined) {
      errand.fail(400, 'this request cannot be handed on over HTTP/2');
      return;
    }
    this.#listen(stream, errand, (answer, last) => errand.answer(answer, stream, last));
    if (hasNoBody) return;
    if (hasTrailers) {
      stream.once('wantTrailers', () => {
        const last = grouped(trailerFields(trailers()).flat());
        attempt(() => stream.sendTrailers(last));
        // Without them: something in them could not be written.
        if (!stream.sentTrailers) attempt(() => stream.sendTrailers({}));
      });
    }
    if (Buffer.isBuffer(body)) stream.end(body);
    else {
      body.pipe(stream);
      body.once('close', () => {
        if (!stream.writableEnded) stream.close(NGHTTP2_CANCEL);
      });
    }
  }

  /** A WebSocket, as HTTP/2 has it: the key and its proof are for the client's connection only. [RFC 8441 §5] */
  #connect(errand: Errand, head: RequestHead): void {
    const accept = acceptOf(headerValue(head.headers, 'sec-websocket-key'));
    const fields = fieldsOf(head, errand.requestingClient);
    delete fields['sec-websocket-key'];
    Object.assign(fields, { ':method': 'CONNECT', ':protocol': 'websocket' });
    const stream = accept && attempt(() => this.#session.request(fields, { endStream: false }));
    if (!stream) {
      errand.fail(400, 'this is no request for a WebSocket');
      return;
    }
    this.#listen(stream, errand, (answer, last) => {
      const isAccepted = answer.status >= 200 && answer.status < 300;
      if (!isAccepted) {
        stream.end();
        errand.answer(answer, stream, last);
        return;
      }
      const headers = [...answer.headers, 'Sec-WebSocket-Accept', accept];
      errand.open({ status: 101, reason: '', headers }, stream, NOTHING);
    });
  }

  #listen(
    stream: ClientHttp2Stream,
    errand: Errand,
    onAnswer: (answer: ResponseHead, trailers: () => RawHeaders) => void,
  ): void {
    let last: RawHeaders = [];
    this.#streams += 1;
    errand.requestor.onGone = () => stream.close(NGHTTP2_CANCEL);
    stream.on('error', () => {});
    stream.on('response', (pseudo, _flags, raw: string[] = []) => onAnswer(headOf(pseudo, raw), () => last));
    stream.on('headers', (pseudo, _flags, raw: string[] = []) => errand.inform(headOf(pseudo, raw)));
    stream.on('trailers', (_pseudo, _flags, raw: string[] = []) => {
      last = raw;
    });
    stream.on('close', () => {
      this.#streams -= 1;
      this.#endWhenIdle();
      if (errand.answered) errand.finish();
      else errand.lost(stream.rstCode !== NGHTTP2_REFUSED_STREAM);
    });
  }
}

function fieldsOf({ method, target, headers }: RequestHead, requestingClient: string): OutgoingHttpHeaders {
  return {
    ...grouped(endToEndHeaders(headers, NOT_SENT)),
    'requesting-client': requestingClient,
    ':method': method,
    ':path': target,
    ':scheme': 'http',
    ':authority': headerValue(headers, 'host') ?? 'localhost',
  };
}

function headOf(pseudo: IncomingHttpHeaders & IncomingHttpStatusHeader, raw: RawHeaders): ResponseHead {
  const headers = raw.filter((_one, index) => !raw[index - (index % 2)]?.startsWith(':'));
  return { status: Number(pseudo[':status']), reason: '', headers };
}

/** Names in lower case, with all their values. */
function grouped(headers: readonly string[]): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = Object.create(null);
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]?.toLowerCase() ?? '';
    const value = headers[index + 1] ?? '';
    const before = fields[name];
    fields[name] = before === undefined ? value : [before, value].flat();
  }
  return fields;
}
