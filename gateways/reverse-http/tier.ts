/**
 * A gateway that is a server itself: for one name it polls a gateway above, and gives what it gets to its own servers of
 * that name. It parks as many polls above as it has free slots below, so that a request waits in the highest queue until
 * somebody at the bottom is free for it, and slots add up from tier to tier.
 *
 *   gateway above <- POST /reversehttp, GET request URL … (long poll) - this one -> amq.rhttp -> rhttp.NAME -> servers
 */
import { randomUUID } from 'node:crypto';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, Agent as TlsAgent } from 'node:https';
import { createMessage, type Message } from '../../broker/message.ts';
import type { Broker, Channel, Connection } from '../../broker/port.ts';
import { collect } from './body.ts';
import { RHTTP_EXCHANGE } from './claim.ts';
import { encodeResponse } from './http-message.ts';
import type { ResolvedOptions } from './options.ts';
import { MESSAGE_HTTP } from './requestor.ts';

/** How often the free slots are counted. */
const COUNT_MS = 250;
/** After a failure above, how long nothing is asked of it. */
const RETRY_MS = 1000;
const DIRECT_REPLIES = 'amq.rabbitmq.reply-to';

export interface Upstream {
  /** The name here and above. */
  readonly name: string;
  /** The gateway service URL above, with user and password in it, and the token of the claim as `?token=`. */
  readonly url: URL;
}

export interface TierHost {
  readonly broker: Broker;
  readonly options: ResolvedOptions;
  /** Free slots for a name, here and further below. */
  readonly freeSlots: (name: string) => Promise<number>;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

/** `foo=http://user:password@host:8080/reversehttp?token=t`. Throws RangeError. */
export function parseUpstream(text: string): Upstream {
  const [, name = '', url = ''] = /^([a-z][a-z0-9-]{0,62})=(https?:\/\/\S+)$/i.exec(text) ?? [];
  if (name === '' || !URL.canParse(url)) {
    throw new RangeError(`"${text.replace(/\/\/[^@]*@/, '//')}" is no NAME=http://user:password@host:port/reversehttp`);
  }
  return { name: name.toLowerCase(), url: new URL(url) };
}

export class Tier {
  readonly #host: TierHost;
  readonly #upstream: Upstream;
  readonly #agent: Agent;
  readonly #abort = new AbortController();
  /** Polls that are parked above; each can be called back. */
  readonly #parked = new Set<AbortController>();
  readonly #waiting = new Map<string, (reply: Message) => void>();
  #timer: NodeJS.Timeout | undefined;
  #connection: Connection | undefined;
  #channel: Channel | undefined;
  #quietUntil = 0;
  #failing = false;

  constructor(host: TierHost, upstream: Upstream) {
    this.#host = host;
    this.#upstream = upstream;
    const agentOptions = { keepAlive: true, maxFreeSockets: 64 };
    this.#agent = upstream.url.protocol === 'https:' ? new TlsAgent(agentOptions) : new Agent(agentOptions);
  }

  start(): void {
    this.#timer = setInterval(() => void this.#adjust().catch((error: unknown) => this.#onFailure(error)), COUNT_MS);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#abort.abort();
    for (const poll of this.#parked) poll.abort();
    this.#agent.destroy();
    await this.#connection?.close();
  }

  async #adjust(): Promise<void> {
    if (this.#abort.signal.aborted || performance.now() < this.#quietUntil) return;
    const free = await this.#host.freeSlots(this.#upstream.name);
    for (const poll of [...this.#parked].slice(free)) poll.abort();
    for (let count = this.#parked.size; count < free; count += 1) {
      const poll = new AbortController();
      this.#parked.add(poll);
      this.#serve(poll)
        .catch((error: unknown) => {
          if (!poll.signal.aborted) this.#onFailure(error);
        })
        .finally(() => this.#parked.delete(poll));
    }
  }

  /** One chain of request URLs, from a claim until there is no free slot for another request. */
  async #serve(poll: AbortController): Promise<void> {
    const claimed = await this.#claim(poll.signal);
    for (let url = relation(claimed, 'first'); url !== undefined && !poll.signal.aborted; ) {
      const got = await this.#ask('GET', url, poll.signal);
      this.#onSuccess();
      if (got.status === 200) {
        // It is a slot below that is taken now, and no parked poll any more.
        this.#parked.delete(poll);
        await this.#handDown(url, got);
        return;
      }
      if (got.status !== 204) throw new Error(`the gateway above answered a poll with ${got.status}`);
      url = relation(got, 'next');
    }
  }

  async #claim(signal: AbortSignal): Promise<Answer> {
    const { name, url } = this.#upstream;
    const service = new URL(url);
    const token = service.searchParams.get('token');
    service.search = '';
    const form = new URLSearchParams({ name, ...(token !== null && { token }) });
    const answer = await this.#ask('POST', service.href, signal, Buffer.from(form.toString()));
    if (answer.status !== 201 && answer.status !== 204) {
      throw new Error(`the gateway above answered the claim of ${name} with ${answer.status}`);
    }
    return answer;
  }

  async #handDown(url: string, { body, headers }: Answer): Promise<void> {
    const channel = await this.#open();
    const id = randomUUID();
    const { replyTimeoutMs } = this.#host.options;
    const reply = await new Promise<Buffer>((resolve) => {
      const settle = (octets: Buffer): void => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        resolve(octets);
      };
      const timer = setTimeout(() => settle(unanswered()), replyTimeoutMs);
      this.#waiting.set(id, ({ body: octets }) => settle(Buffer.from(octets)));
      channel.publish(
        createMessage({
          exchange: RHTTP_EXCHANGE,
          routingKey: this.#upstream.name,
          body,
          properties: {
            contentType: MESSAGE_HTTP,
            correlationId: id,
            replyTo: DIRECT_REPLIES,
            expiration: String(replyTimeoutMs),
            headers: { 'requesting-client': String(headers['requesting-client'] ?? '') },
          },
        }),
      );
    });
    await this.#ask('POST', url, this.#abort.signal, reply, MESSAGE_HTTP);
  }

  async #open(): Promise<Channel> {
    if (this.#channel !== undefined) return this.#channel;
    const onClose = (): void => {
      this.#channel = undefined;
    };
    const peer = { protocol: 'HTTP', name: `tier ${this.#upstream.name} ${randomUUID()}` };
    const connection = await this.#host.broker.connect(undefined, undefined, { onClose }, peer);
    if (this.#channel !== undefined) {
      await connection.close();
      return this.#channel;
    }
    const channel = connection.openChannel();
    const onDeliver = (message: Message): void => {
      this.#waiting.get(message.properties.correlationId ?? '')?.(message);
    };
    await channel.consume({ queue: DIRECT_REPLIES, noAck: true }, { onDeliver });
    this.#connection = connection;
    this.#channel = channel;
    return channel;
  }

  #ask(method: string, target: string, signal: AbortSignal, body?: Buffer, type?: string): Promise<Answer> {
    const url = new URL(target);
    const { username, password } = this.#upstream.url;
    const isSecure = url.protocol === 'https:';
    return new Promise((resolve, reject) => {
      const asking = (isSecure ? httpsRequest : httpRequest)(url, {
        method,
        signal,
        agent: this.#agent,
        auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}`,
        headers: {
          ...(body !== undefined && {
            'Content-Type': type ?? 'application/x-www-form-urlencoded',
            'Content-Length': body.length,
          }),
        },
      });
      asking.on('error', reject);
      asking.on('response', (response) => {
        const { statusCode: status = 0, headers } = response;
        collect(response, this.#host.options).then((all) => resolve({ status, headers, body: all }), reject);
      });
      asking.end(body);
    });
  }

  #onSuccess(): void {
    this.#failing = false;
  }

  /** Said once until it works again: the next attempt comes soon. */
  #onFailure(error: unknown): void {
    if (this.#abort.signal.aborted) return;
    this.#quietUntil = performance.now() + RETRY_MS;
    if (this.#failing) return;
    this.#failing = true;
    const { host } = this.#upstream.url;
    this.#host.options.log.warn({ claim: this.#upstream.name, host, err: error }, 'the gateway above cannot be served');
  }
}

/** The target of a `Link` field's relation. */
function relation({ headers }: Answer, name: string): string | undefined {
  const links = [headers.link ?? []].flat().join(', ');
  for (const [, url, rel] of links.matchAll(/<([^>]*)>\s*;\s*rel="?(\w+)"?/g)) if (rel === name) return url;
  return undefined;
}

function unanswered(): Buffer {
  const body = Buffer.from('the application did not answer in time\n');
  return encodeResponse({ status: 504, reason: '', headers: ['Content-Type', 'text/plain'] }, body, true);
}
