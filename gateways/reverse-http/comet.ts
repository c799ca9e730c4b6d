/**
 * The COMET fallback, for servers that can neither turn a connection round nor post HTTP in HTTP: JSON both ways.
 * [Second Life wiki, Reverse HTTP, 2008]
 *
 *   POST /reversehttp/NAME, nothing or the answer to the request before
 *     200 { "message-id", "method", "request-uri", "http-version", "headers": [[name, value], …], "body" }, or {}
 *
 * A body that is no UTF-8 is in base64, and `"body-encoding": "base64"` says so, both ways.
 */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http';
import { readBody } from './body.ts';
import type { Crew } from './crew.ts';
import type { Errand, ErrandRequest } from './errand.ts';
import { asHttpError, HttpError } from './http-error.ts';
import type { ResponseHead } from './http-message.ts';
import type { ResolvedOptions } from './options.ts';
import { Poll, waitMs } from './poll.ts';

interface Held {
  readonly errand: Errand;
  readonly crew: Crew;
}

interface Reply {
  readonly id: string;
  readonly head: ResponseHead;
  readonly body: Buffer;
}

export class Comet {
  readonly #options: ResolvedOptions;
  /** Requests that were given out, by message id. */
  readonly #held = new Map<string, Held>();

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  /** Takes the answer that `request` brings, if any, and waits for the next request to `crew`. Throws HttpError. */
  async onRequest(request: IncomingMessage, response: ServerResponse, crew: Crew, url: URL): Promise<void> {
    const octets = await readBody(request, response, this.#options);
    if (octets.length > 0) this.#onReply(readReply(octets), crew);
    const poll = new Poll(response, crew, 1, {
      waitMs: waitMs(request, url, this.#options),
      onErrands: ([errand]) => {
        if (errand !== undefined) void this.#give(errand, crew, response);
      },
      onEnd: (status) => {
        if (status !== 'lost') sendJson(response, status === 410 ? 410 : 200, {});
      },
    });
    poll.start();
  }

  #onReply({ id, head, body }: Reply, crew: Crew): void {
    const held = this.#held.get(id);
    // The answer may come too late, but nobody answers for somebody else.
    if (held === undefined || held.crew !== crew) throw new HttpError(404, 'no request with this message-id waits');
    this.#held.delete(id);
    held.errand.answer(head, body);
    held.errand.finish();
  }

  async #give(errand: Errand, crew: Crew, response: ServerResponse): Promise<void> {
    let request: ErrandRequest;
    try {
      request = await errand.request();
    } catch (error) {
      if (asHttpError(error) === undefined) throw error;
      errand.fail(400, 'this is no HTTP request');
      sendJson(response, 200, {});
      return;
    }
    const id = randomUUID();
    this.#held.set(id, { errand, crew });
    errand.requestor.onGone = () => {
      this.#held.delete(id);
      errand.finish();
    };
    response.once('close', () => {
      if (!response.writableFinished && this.#held.delete(id)) errand.lost(true);
    });
    sendJson(response, 200, describe(id, request));
  }
}

function describe(id: string, { head, body }: ErrandRequest): object {
  const octets = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
  const headers: [string, string][] = [];
  for (let index = 0; index + 1 < head.headers.length; index += 2) {
    headers.push([head.headers[index] ?? '', head.headers[index + 1] ?? '']);
  }
  const text = octets.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(octets);
  return {
    'message-id': id,
    method: head.method,
    'request-uri': head.target,
    'http-version': head.version,
    headers,
    body: isText ? text : octets.toString('base64'),
    ...(!isText && { 'body-encoding': 'base64' }),
  };
}

/** Throws HttpError 400. */
function readReply(octets: Buffer): Reply {
  const invalid = (what: string): HttpError => new HttpError(400, `the answer is invalid: ${what}`);
  let json: unknown;
  try {
    json = JSON.parse(octets.toString('utf8'));
  } catch {
    throw invalid('it is no JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw invalid('it is no object');
  const fields = json as Record<string, unknown>;
  const { status, reason = '', headers = [], body = '' } = fields;
  const id = fields['message-id'];
  if (typeof id !== 'string') throw invalid('message-id is missing');
  if (!Number.isInteger(status) || Number(status) < 200 || Number(status) > 999) throw invalid('status cannot be');
  if (typeof reason !== 'string' || !/^[\t\x20-\x7e]*$/.test(reason)) throw invalid('reason cannot be');
  if (typeof body !== 'string' || !Array.isArray(headers)) throw invalid('headers or body cannot be');
  const flat = headers.flatMap((pair: unknown): string[] => {
    const [name, value] = Array.isArray(pair) ? (pair as unknown[]) : [];
    if (typeof name !== 'string' || typeof value !== 'string') throw invalid('headers are pairs of texts');
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch {
      throw invalid('a header field cannot be');
    }
    return [name, value];
  });
  const encoding = fields['body-encoding'] === 'base64' ? 'base64' : 'utf8';
  return { id, head: { status: Number(status), reason, headers: flat }, body: Buffer.from(body, encoding) };
}

function sendJson(response: ServerResponse, status: number, json: object): void {
  const text = JSON.stringify(json);
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
  });
  response.end(text);
}
