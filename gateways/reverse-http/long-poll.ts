/**
 * The long poll of reversehttp.net. A request URL is a capability that goes through three states:
 *
 *   fresh > polled (GET waits) > holding (a request was given out) > answered (POST), and it is gone
 *
 * A poll that ends without a request leaves its URL fresh. A poller who has lost the answer to his GET may ask again: as
 * long as nobody has replied he gets the same request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { readBody } from './body.ts';
import type { Capabilities } from './capabilities.ts';
import type { Claim } from './claim.ts';
import type { Crew } from './crew.ts';
import type { Errand } from './errand.ts';
import { HttpError, sendEmpty } from './http-error.ts';
import { splitResponses } from './http-pipeline.ts';
import { baseUrl, capabilityUrl, link } from './links.ts';
import type { ResolvedOptions } from './options.ts';
import { Poll, waitMs } from './poll.ts';
import { MESSAGE_HTTP } from './requestor.ts';
import type { Resource, Visit } from './resource.ts';

/** Several requests or responses, one after the other [RFC 9112 §10.2]. */
const APPLICATION_HTTP = 'application/http';

export interface PollHost {
  readonly options: ResolvedOptions;
  readonly capabilities: Capabilities<Resource>;
}

/** Request URLs of one claim that nobody has used up; the oldest goes when there are more. */
const FRESH_URLS_MAX = 50_000;

/** Makes a fresh request URL for the pollers of `crew`; its token. */
export function mintRequestUrl(host: PollHost, claim: Claim, crew: Crew): string {
  const resource = new RequestUrl(host, claim, crew);
  resource.token = host.capabilities.mint(resource);
  claim.tokens.add(resource.token);
  if (claim.tokens.size > FRESH_URLS_MAX) {
    const [oldest = ''] = claim.tokens;
    claim.tokens.delete(oldest);
    host.capabilities.revoke(oldest);
  }
  return resource.token;
}

class RequestUrl implements Resource {
  token = '';
  readonly #host: PollHost;
  readonly #claim: Claim;
  readonly #crew: Crew;
  #poll: Poll | undefined;
  #held: readonly Errand[] = [];
  #next: string | undefined;

  constructor(host: PollHost, claim: Claim, crew: Crew) {
    this.#host = host;
    this.#claim = claim;
    this.#crew = crew;
  }

  async onRequest(request: IncomingMessage, response: ServerResponse, { peer, url }: Visit): Promise<void> {
    if (request.method === 'GET') this.#onPoll(request, response, baseUrl(request, peer, this.#host.options), url);
    else if (request.method === 'POST') await this.#onReply(request, response);
    else throw new HttpError(405, 'GET waits for a request, POST replies to it', { Allow: 'GET, POST, OPTIONS' });
  }

  #onPoll(request: IncomingMessage, response: ServerResponse, base: string, url: URL): void {
    const isPipeline = acceptsPipelines(request.headers.accept) && this.#host.options.pipelineMax > 1;
    if (this.#held.length > 0) {
      this.#give(response, base, this.#held);
      return;
    }
    // Whoever polls twice with one URL has given the first poll up.
    this.#poll?.end(204);
    const poll = new Poll(response, this.#crew, isPipeline ? this.#host.options.pipelineMax : 1, {
      waitMs: waitMs(request, url, this.#host.options),
      onErrands: (errands) => this.#onErrands(response, base, errands),
      onEnd: (status) => {
        if (this.#poll === poll) this.#poll = undefined;
        if (status === 204) sendEmpty(response, 204, { Link: link(capabilityUrl(base, this.token), 'next') });
        else if (status === 410) sendEmpty(response, 410);
      },
    });
    this.#poll = poll;
    poll.start();
  }

  #onErrands(response: ServerResponse, base: string, errands: readonly Errand[]): void {
    this.#poll = undefined;
    this.#held = errands;
    // A request URL that was given out for a request outlives the claim: what is in progress may still be answered.
    this.#claim.tokens.delete(this.token);
    this.#give(response, base, errands);
    response.once('close', () => {
      if (response.writableFinished || this.#held !== errands) return;
      this.#drop();
      for (const errand of errands) errand.lost(true);
    });
    for (const errand of errands) {
      errand.requestor.onGone = () => {
        if (this.#held === errands && errands.every((one) => one === errand || one.settled)) this.#drop();
        errand.finish();
      };
    }
  }

  #give(response: ServerResponse, base: string, errands: readonly Errand[]): void {
    this.#next ??= mintRequestUrl(this.#host, this.#claim, this.#crew);
    const body = errands.length === 1 ? errands[0]?.octets : Buffer.concat(errands.map(({ octets }) => octets));
    response.writeHead(200, {
      'Content-Type': errands.length === 1 ? MESSAGE_HTTP : APPLICATION_HTTP,
      'Content-Length': body?.length ?? 0,
      'Cache-Control': 'no-store',
      Link: link(capabilityUrl(base, this.#next), 'next'),
      'Requesting-Client': errands[0]?.requestingClient ?? '',
    });
    response.end(body);
  }

  async #onReply(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const octets = await readBody(request, response, this.#host.options);
    const errands = this.#held;
    if (errands.length === 0) throw new HttpError(404, 'no request was given out here');
    this.#drop();
    const [only] = errands;
    if (errands.length === 1 && only !== undefined) await only.answerOctets(octets);
    else await answerAll(errands, octets);
    sendEmpty(response, 202);
  }

  /** The URL is used up. */
  #drop(): void {
    this.#held = [];
    this.#host.capabilities.revoke(this.token);
  }
}

/**
 * The replies to a pipeline, in its order. Rejects with HttpError 400, and tells the requestors 502, if they are not as
 * many, or one is invalid.
 */
async function answerAll(errands: readonly Errand[], octets: Buffer): Promise<void> {
  const methods = errands.map(({ requestor }) => requestor.method);
  let parts: readonly Buffer[];
  try {
    parts = splitResponses(octets, methods);
  } catch (error) {
    for (const errand of errands) errand.fail(502, 'the answer of the application is invalid');
    throw error;
  }
  const outcomes = await Promise.allSettled(
    errands.map((errand, index) => errand.answerOctets(parts[index] ?? new Uint8Array(0))),
  );
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

/** Only who names the type itself can read a pipeline; a wildcard says nothing about that. */
function acceptsPipelines(accept = ''): boolean {
  return accept.split(',').some((part) => {
    const [type = '', ...parameters] = part.split(';').map((word) => word.trim().toLowerCase());
    return type === APPLICATION_HTTP && !parameters.includes('q=0');
  });
}
