/**
 * Server-sent events [HTML: server-sent events]: `GET` with `Accept: text/event-stream` follows a queue, or an exchange
 * through a queue of its own.
 *
 * Nothing is lost across a reconnect. An event's id names the stream and counts; a browser that comes back says the last
 * one it has seen (`Last-Event-ID`), which acknowledges it and all before it, and gets the rest again. Between reconnects
 * there is no way to hear what has arrived, so a stream ends when its window is full of unacknowledged events: the
 * browser comes back at once, and acknowledges by that. Who reads with a program may POST ids to `Link: rel="ack"`
 * instead. A stream whose reader does not come back in time gives everything back to its queue.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Message } from '../../broker/message.ts';
import type { Channel, Connection, Principal } from '../../broker/port.ts';
import { readBody } from './body.ts';
import type { Capabilities } from './capabilities.ts';
import { acknowledgesItself, type ConsumingHost, INERT_FIELDS } from './consuming.ts';
import { asHttpError, HttpError, sendEmpty, sendError } from './http-error.ts';
import { baseUrl, capabilityUrl, link } from './links.ts';
import { jsonOf, textOf } from './message-headers.ts';
import { DEFAULT_EXCHANGE } from './publishing.ts';
import type { Resource, Visit } from './resource.ts';

/** What browsers wait before they come back. */
const RETRY_MS = 200;
/** A comment after so long a silence shows proxies, and this side, that the other end is there. */
const HEARTBEAT_MS = 15_000;
/** `Last-Event-ID` is this long at most, and so is a body with one. */
const ID_BYTES_MAX = 256;

/** What is followed. */
export type Source = { readonly queue: string } | { readonly exchange: string; readonly bindingKey: string };

export class EventStreams {
  readonly #host: ConsumingHost;
  readonly #streams: Capabilities<EventStream>;

  constructor(host: ConsumingHost, streams: Capabilities<EventStream>) {
    this.#host = host;
    this.#streams = streams;
  }

  /** Throws HttpError and BrokerError. */
  async onRequest(
    request: IncomingMessage,
    response: ServerResponse,
    visit: Visit,
    source: Source,
    principal: Principal,
  ): Promise<void> {
    const base = baseUrl(request, visit.peer, this.#host.options);
    const [, token = '', count = ''] = /^([\w-]{1,64})\.(\d{1,15})$/.exec(lastEventId(request, visit.url)) ?? [];
    const followed = JSON.stringify([source, visit.url.searchParams.get('vhost')]);
    const known = this.#streams.find(token);
    if (known?.isFor(principal, followed)) {
      known.acknowledge(Number(count));
      if (!response.destroyed) known.attach(response, base);
      return;
    }
    const stream = await this.#open(source, visit.url, principal, followed);
    // Nobody has been told its name.
    if (response.destroyed) stream.end();
    else stream.attach(response, base);
  }

  async #open(source: Source, url: URL, principal: Principal, followed: string): Promise<EventStream> {
    const { sessions, capabilities, options } = this.#host;
    const vhost = url.searchParams.get('vhost') ?? undefined;
    let stream: EventStream | undefined;
    const connection = await sessions.open(principal, vhost, () => stream?.end());
    try {
      const channel = connection.openChannel();
      const opened = new EventStream({
        connection,
        channel,
        principal,
        followed,
        noAck: acknowledgesItself(url),
        isJson: url.searchParams.get('format') === 'json',
        window: options.streamWindow,
        windowBytes: options.streamWindowBytes,
        returnMs: options.ackTimeoutMs,
        idleMs: options.bodyIdleMs,
        onEnd: () => {
          this.#streams.revoke(opened.token);
          capabilities.revoke(opened.acknowledgeToken);
        },
      });
      stream = opened;
      opened.token = this.#streams.mint(opened);
      opened.acknowledgeToken = capabilities.mint(opened);
      await opened.consume(await inboxOf(source, channel));
      return opened;
    } catch (error) {
      stream?.end();
      await connection.close();
      throw error;
    }
  }
}

/** The queue that is followed: for an exchange one that is nobody else's and ends with the stream. */
async function inboxOf(source: Source, channel: Channel): Promise<string> {
  if ('queue' in source) return source.queue;
  const { exchange, bindingKey } = source;
  if (exchange === DEFAULT_EXCHANGE)
    throw new HttpError(400, 'the default exchange is followed by its queues: /queue/NAME');
  const { queue } = await channel.declareQueue({ queue: '', exclusive: true });
  await channel.bind({ source: exchange, destination: queue, destinationKind: 'queue', bindingKey });
  return queue;
}

/** Programs that cannot set the field put it into the query. */
function lastEventId(request: IncomingMessage, url: URL): string {
  return String(request.headers['last-event-id'] ?? url.searchParams.get('last-event-id') ?? '');
}

interface StreamOptions {
  readonly connection: Connection;
  readonly channel: Channel;
  readonly principal: Principal;
  readonly followed: string;
  readonly noAck: boolean;
  readonly isJson: boolean;
  readonly window: number;
  readonly windowBytes: number;
  readonly returnMs: number;
  readonly idleMs: number;
  readonly onEnd: () => void;
}

interface SentEvent {
  readonly count: number;
  readonly deliveryTag: number;
  readonly text: string;
}

/** One follower, across his connections. As a resource it is the URL that acknowledges. */
class EventStream implements Resource {
  token = '';
  acknowledgeToken = '';
  readonly #options: StreamOptions;
  #response: ServerResponse | undefined;
  #unacked: SentEvent[] = [];
  #unackedBytes = 0;
  #count = 0;
  #heartbeat: NodeJS.Timeout | undefined;
  #returnTimer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    options.channel.pause();
    options.channel.prefetch(options.window);
  }

  isFor(principal: Principal, followed: string): boolean {
    return this.#options.principal.username === principal.username && this.#options.followed === followed;
  }

  async consume(queue: string): Promise<void> {
    const { channel, noAck } = this.#options;
    await channel.consume(
      { queue, noAck },
      { onDeliver: (...delivery) => this.#onDeliver(...delivery), onCancel: () => this.end() },
    );
  }

  /** The reader is here, again or for the first time; an earlier connection of his is over. */
  attach(response: ServerResponse, base: string): void {
    const before = this.#response;
    this.#response = undefined;
    before?.end();
    clearTimeout(this.#returnTimer);
    clearInterval(this.#heartbeat);
    if (this.#ended) {
      sendError(response, new HttpError(410, 'what was followed is gone'));
      return;
    }
    this.#response = response;
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      ...INERT_FIELDS,
      Link: link(capabilityUrl(base, this.acknowledgeToken), 'ack'),
      // COMPAT: nginx holds answers back unless it is told not to.
      'X-Accel-Buffering': 'no',
    });
    response.write(`retry: ${RETRY_MS}\n\n${this.#unacked.map(({ text }) => text).join('')}`);
    response.once('close', () => this.#onLeft(response));
    response.on('drain', () => this.#resume());
    this.#heartbeat = setInterval(() => response.write(':\n\n'), HEARTBEAT_MS).unref();
    if (!this.#endFull()) this.#resume();
  }

  /** Settles the events up to this one. */
  acknowledge(count: number): void {
    const last = this.#unacked.findLast((event) => event.count <= count);
    if (last === undefined) return;
    this.#unacked = this.#unacked.filter((event) => event.count > count);
    this.#unackedBytes = this.#unacked.reduce((sum, { text }) => sum + text.length, 0);
    this.#options.channel.ack(last.deliveryTag, true);
  }

  async onRequest(request: IncomingMessage, response: ServerResponse, { url }: Visit): Promise<void> {
    if (request.method !== 'POST') {
      throw new HttpError(405, 'POST an id: it and all before it are acknowledged', { Allow: 'POST, OPTIONS' });
    }
    const limits = { bodyBytesMax: ID_BYTES_MAX, bodyIdleMs: this.#options.idleMs };
    const body = (await readBody(request, response, limits)).toString().trim();
    const id = lastEventId(request, url) || body;
    const [, token, count = ''] = /^([\w-]{1,64})\.(\d{1,15})$/.exec(id) ?? [];
    if (token !== this.token) throw new HttpError(400, 'this is no id of this stream');
    this.acknowledge(Number(count));
    sendEmpty(response, 204);
  }

  /** What is not settled goes back to its queue. Idempotent. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#returnTimer);
    clearInterval(this.#heartbeat);
    this.#response?.end();
    this.#options.onEnd();
    this.#options.connection.close().catch((error: unknown) => {
      if (asHttpError(error) === undefined) throw error;
    });
  }

  #onDeliver(message: Message, deliveryTag: number, redelivered: boolean): void {
    this.#count += 1;
    const count = this.#count;
    const { noAck, isJson } = this.#options;
    const text = eventText(`${this.token}.${count}`, message, redelivered, isJson);
    if (!noAck) {
      this.#unacked.push({ count, deliveryTag, text });
      this.#unackedBytes += text.length;
    }
    // Without a reader it is sent when he comes back.
    if (this.#response?.write(text) !== true) this.#options.channel.pause();
    if (this.#response?.writableNeedDrain) this.#watchReader(this.#response);
    this.#endFull();
  }

  /** A full window is emptied by the reader's return. */
  #endFull(): boolean {
    const response = this.#response;
    const { window, windowBytes } = this.#options;
    const isFull = this.#unacked.length >= window || this.#unackedBytes >= windowBytes;
    if (!isFull || response === undefined) return false;
    response.end();
    this.#onLeft(response);
    return true;
  }

  #watchReader(response: ServerResponse): void {
    const timer = setTimeout(() => response.destroy(), this.#options.idleMs).unref();
    response.once('drain', () => clearTimeout(timer));
  }

  #resume(): void {
    try {
      this.#options.channel.resume();
    } catch (error) {
      if (asHttpError(error) === undefined) throw error;
    }
  }

  #onLeft(response: ServerResponse): void {
    if (this.#response !== response) return;
    this.#response = undefined;
    clearInterval(this.#heartbeat);
    if (this.#ended) return;
    if (this.#options.noAck) this.end();
    else {
      this.#options.channel.pause();
      this.#returnTimer = setTimeout(() => this.end(), this.#options.returnMs).unref();
    }
  }
}

function eventText(id: string, message: Message, redelivered: boolean, isJson: boolean): string {
  const { text, isText } = isJson ? { text: jsonOf(message, redelivered), isText: true } : textOf(message.body);
  const type = isText ? '' : 'event: base64\n';
  return `id: ${id}\n${type}${text
    .split(/\r\n|\r|\n/)
    .map((line) => `data: ${line}\n`)
    .join('')}\n`;
}
