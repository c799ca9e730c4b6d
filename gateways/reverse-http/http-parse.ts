/**
 * Reading `message/http` and `application/http` [RFC 9112 §10]: the octets are played to `node:http` as if they came from
 * a connection, so that what it refuses on the wire (both length and chunks, bare line feeds, folded lines, two lengths,
 * a body that ends too early) is refused in a message too.
 */
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { Duplex } from 'node:stream';
import { type BodyLimits, collect, isChunked } from './body.ts';
import { HttpError } from './http-error.ts';
import type { RawHeaders, RequestHead, ResponseHead } from './http-message.ts';
import { onlyResponse } from './http-pipeline.ts';

export interface ParsedRequest {
  readonly head: RequestHead;
  readonly body: Buffer;
  readonly trailers: () => RawHeaders;
}

export interface ParsedResponse {
  readonly head: ResponseHead;
  readonly body: Buffer;
  readonly trailers: () => RawHeaders;
}

/** What is played has arrived already: a body that does not end at once never does. */
const LIMITS: BodyLimits = { bodyBytesMax: Number.POSITIVE_INFINITY, bodyIdleMs: 5000 };
const HEADER_BYTES_MAX = 64 * 1024;

/** A connection on which `octets` have come and whatever is said is not heard; `ended`: and no more will come. */
function recording(octets: Uint8Array, ended: boolean): Duplex {
  const duplex = new Duplex({ read: () => {}, write: (_chunk, _encoding, callback) => callback() });
  duplex.push(octets);
  if (ended) duplex.push(null);
  return duplex;
}

/** `bare`: it asks for another protocol, and `node:http` reads no body. */
type OnRequest = (request: IncomingMessage | undefined, bare: boolean) => void;

const readings = new WeakMap<Duplex, OnRequest>();
let server: Server | undefined;

/** Never listens. */
function reader(): Server {
  if (server) return server;
  server = createServer({ maxHeaderSize: HEADER_BYTES_MAX });
  const tell = (socket: Duplex, request?: IncomingMessage, bare = false): void => readings.get(socket)?.(request, bare);
  server.on('request', (request) => tell(request.socket, request));
  server.on('checkContinue', (request) => tell(request.socket, request));
  server.on('upgrade', (request, socket) => tell(socket, request, true));
  server.on('connect', (_request, socket) => tell(socket));
  server.on('clientError', (_error, socket) => tell(socket));
  return server;
}

/** Reads one request. Rejects with HttpError 400 for what is none, for half of one, and for more than one. */
export async function parseRequest(octets: Uint8Array): Promise<ParsedRequest> {
  const duplex = recording(octets, false);
  try {
    return await new Promise<ParsedRequest>((resolve, reject) => {
      const refuse = (): void => reject(new HttpError(400, 'this is no HTTP request'));
      let only: IncomingMessage | undefined;
      readings.set(duplex, (request, bare) => {
        if (only !== undefined || request === undefined) {
          refuse();
          return;
        }
        only = request;
        const { method = '', url: target = '', httpVersion: version, rawHeaders: headers } = request;
        const body = bare ? Promise.resolve(Buffer.alloc(0)) : collect(request, LIMITS);
        const trailers = (): RawHeaders => request.rawTrailers;
        body.then((all) => resolve({ head: { method, target, version, headers }, body: all, trailers }), reject);
      });
      duplex.on('error', refuse);
      reader().emit('connection', duplex);
      // All that will ever come is read in one turn.
      setImmediate(() => setImmediate(() => duplex.destroy()));
      duplex.on('close', refuse);
    });
  } finally {
    duplex.destroy();
  }
}

/**
 * Reads the response to a request with this method; without a length, its body is all that follows. Rejects with
 * HttpError 400 for what is no final response, for one that ends too early and for one with octets after its end.
 */
export async function parseResponse(octets: Uint8Array, method: string): Promise<ParsedResponse> {
  const duplex = recording(
    onlyResponse(Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength), method),
    true,
  );
  const invalid = (reason: string): HttpError => new HttpError(400, `this is no HTTP response: ${reason}`);
  try {
    return await new Promise<ParsedResponse>((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException): void => reject(invalid(error.code ?? error.message));
      const asking = httpRequest({
        method,
        createConnection: () => duplex,
        setHost: false,
        maxHeaderSize: HEADER_BYTES_MAX,
      });
      asking.on('error', fail);
      duplex.on('error', fail);
      asking.on('upgrade', () => reject(invalid('it changes the protocol')));
      asking.on('response', (response) => {
        const { statusCode: status = 0, statusMessage: reason = '', rawHeaders: headers } = response;
        if (status < 200 || status > 999) reject(invalid('its status cannot be'));
        const coding = response.headers['transfer-encoding'];
        if (coding !== undefined && !isChunked(coding)) reject(invalid('its transfer coding is not known'));
        collect(response, LIMITS).then((body) => {
          const length = response.headers['content-length'];
          // `node:http` would wait on a closed connection for what does not come.
          if (response.complete || length === undefined) {
            resolve({ head: { status, reason, headers }, body, trailers: () => response.rawTrailers });
          } else reject(invalid('its body is shorter than it says'));
        }, reject);
      });
      asking.end();
    });
  } finally {
    duplex.destroy();
  }
}
