/** How failures are told to HTTP clients: the status of every kind of broker error, and a sentence about it. */
import { type IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BrokerError, type BrokerErrorKind } from '../../broker/port.ts';

const STATUS_OF_KIND = {
  'access-refused': 403,
  'not-found': 404,
  'resource-locked': 409,
  'precondition-failed': 409,
  'not-allowed': 403,
  'not-implemented': 501,
  'resource-error': 503,
  'connection-forced': 503,
  'internal-error': 500,
} as const satisfies Record<BrokerErrorKind, number>;

/** A request that the door answers with an error status. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;

  constructor(status: number, explanation: string, headers: HttpError['headers'] = {}) {
    super(explanation);
    this.status = status;
    this.headers = headers;
  }
}

/** What to tell the client about `error`; undefined for a defect of Warren, which the client learns nothing about. */
export function asHttpError(error: unknown): HttpError | undefined {
  if (error instanceof HttpError) return error;
  return error instanceof BrokerError ? new HttpError(STATUS_OF_KIND[error.kind], error.message) : undefined;
}

/** Answers with status, headers and sentence; when an answer has begun already, cuts it off. */
export function sendError(response: ServerResponse, error: HttpError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const text = `${error.message || STATUS_CODES[error.status]}\n`;
  for (const [name, value] of Object.entries(error.headers)) {
    response.setHeader(name, typeof value === 'string' ? value : [...value]);
  }
  // What is left of a body that was not wanted would have to be read before the next request.
  if (!response.req.complete) response.setHeader('Connection', 'close');
  // With its phrase: another one, of an answer that could not be written, may be set.
  response.writeHead(error.status, STATUS_CODES[error.status] ?? '', {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}

/**
 * Something to answer a request with whose socket `node:http` has let go of; the connection ends with the answer, after
 * `closeTimeoutMs` at the latest.
 */
export function responseOn(request: IncomingMessage, socket: Duplex, closeTimeoutMs: number): ServerResponse {
  const response = new ServerResponse(request);
  const onDrain = (): unknown => response.emit('drain');
  // A client that breaks off is no event.
  socket.on('error', () => {});
  response.on('error', () => {});
  response.shouldKeepAlive = false;
  response.assignSocket(socket as Socket);
  socket.on('drain', onDrain);
  response.once('finish', () => {
    socket.end();
    const timer = setTimeout(() => socket.destroy(), closeTimeoutMs).unref();
    socket.once('close', () => clearTimeout(timer));
  });
  return response;
}

/** Answers with a status and headers alone. */
export function sendEmpty(
  response: ServerResponse,
  status: number,
  headers: Record<string, string | string[]> = {},
): void {
  response.writeHead(status, status === 204 ? headers : { 'Content-Length': 0, ...headers });
  response.end();
}
