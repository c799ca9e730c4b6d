/**
 * Requests for public URLs. Each becomes a message in the queue of its claim, `message/http` as it was received, and waits
 * for the answer: directly from a server of this door, or in a message from any consumer of the queue.
 *
 *   404 nobody has claimed it   413 the body is too large   502 the answer is invalid, or its server was lost
 *   503 publishers are held back   504 nobody serves it now, or not fast enough
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createMessage, type Message } from '../../broker/message.ts';
import type { Broker, Channel, Connection, Principal } from '../../broker/port.ts';
import { hostPort, type PeerAddress } from '../gateway.ts';
import { Admission } from './admission.ts';
import { Ask } from './ask.ts';
import { announcedLength, isTooSlow, peekBody, readBody } from './body.ts';
import { RHTTP_EXCHANGE } from './claim.ts';
import type { Claims } from './claims.ts';
import { asHttpError, HttpError } from './http-error.ts';
import { encodeRequest, headerCount, type RequestHead, withoutHeader } from './http-message.ts';
import { parseResponse } from './http-parse.ts';
import type { ResolvedOptions } from './options.ts';
import { MESSAGE_HTTP } from './requestor.ts';
import type { Tunnel } from './tunnel.ts';

/** The pseudo queue of direct replies, which is also the `reply-to` that asks for them. */
const DIRECT_REPLIES = 'amq.rabbitmq.reply-to';
/** A connection of a visiting user that has asked nothing for so long is closed. */
const VISITOR_IDLE_MS = 60_000;

/** How often a request for another protocol looks whether a server has come. */
const PLACE_MS = 50;
const NOTHING = Buffer.alloc(0);

interface AskingChannel {
  readonly connection: Connection;
  readonly channel: Channel;
  readonly admission: Admission;
  timer: NodeJS.Timeout | undefined;
}

export class Asking {
  readonly #broker: Broker;
  readonly #claims: Claims;
  readonly #options: ResolvedOptions;
  /** By user; '' is everyone. */
  readonly #channels = new Map<string, Promise<AskingChannel>>();

  constructor(broker: Broker, claims: Claims, options: ResolvedOptions) {
    this.#broker = broker;
    this.#claims = claims;
    this.#options = options;
  }

  /** Answers a request for the public URL of `name`, as `principal` or, without one, as anybody. Never rejects. */
  async ask(
    name: string,
    principal: Principal | undefined,
    request: IncomingMessage,
    response: ServerResponse,
    peer: PeerAddress,
  ): Promise<void> {
    if (response.destroyed) return;
    const ask = new Ask(name, headOf(request, principal), response, this.#options, (one) => this.#onEnd(one));
    try {
      checkHead(ask);
      await this.#send(ask, principal, request, response, hostPort(peer.remoteAddress, peer.remotePort));
    } catch (error) {
      this.#onFailure(ask, error);
    }
  }

  #onFailure(ask: Ask, error: unknown): void {
    const known = asHttpError(error);
    if (known === undefined)
      this.#options.log.error({ err: error, claim: ask.name }, 'a request failed because of a defect');
    const { status, message } = known ?? new HttpError(500, 'internal error');
    ask.fail(status, message);
  }

  /**
   * As `ask`, for a request for another protocol: `tunnel` and `response` are on its socket, which `node:http` has let go
   * of. It goes past the queue, straight to a reversed connection. Never rejects.
   */
  async askToChange(
    name: string,
    principal: Principal | undefined,
    request: IncomingMessage,
    response: ServerResponse,
    tunnel: Tunnel,
    peer: PeerAddress,
  ): Promise<void> {
    const head = headOf(request, principal);
    const ask = new Ask(name, head, response, this.#options, (one) => this.#onEnd(one), tunnel);
    try {
      checkHead(ask);
      if (principal !== undefined) await this.#checkRight(principal);
      const requestingClient = hostPort(peer.remoteAddress, peer.remotePort);
      await this.#place(tunnel.protocol, ask, requestingClient);
    } catch (error) {
      this.#onFailure(ask, error);
    }
  }

  /** Publishes for nobody: the broker says whether this user may. Throws BrokerError access-refused. */
  async #checkRight(principal: Principal): Promise<void> {
    const { channel, admission } = await this.#channelOf(principal);
    await admission.pass(this.#options.replyTimeoutMs);
    channel.publish(createMessage({ exchange: RHTTP_EXCHANGE, routingKey: '', body: NOTHING }));
  }

  /** Waits for a server to come back as long as any other request would. Throws HttpError. */
  async #place(protocol: string, ask: Ask, requestingClient: string): Promise<void> {
    const direct = { request: { head: ask.head, body: NOTHING }, requestor: ask, requestingClient };
    while (!ask.gone) {
      const claim = this.#claims.get(ask.name);
      const crews = [...(claim?.crews.values() ?? [])];
      this.#claims.asks.set(ask.id, ask);
      if (crews.some((crew) => crew.serveUpgrade(protocol, direct))) {
        this.#watch(ask);
        return;
      }
      this.#claims.asks.delete(ask.id);
      if (await this.#claims.isServed(ask.name))
        throw new HttpError(501, 'nobody who serves this can change the protocol');
      if (claim === undefined) throw new HttpError(404, 'nobody has claimed this');
      if ((await this.#graceMs(ask.name)) <= 0) throw new HttpError(504, 'no application is there to serve this');
      await new Promise((resolve) => setTimeout(resolve, PLACE_MS));
    }
  }

  async close(): Promise<void> {
    const channels = [...this.#channels.values()];
    this.#channels.clear();
    await Promise.allSettled(channels.map(async (opening) => (await opening).connection.close()));
  }

  async #send(
    ask: Ask,
    principal: Principal | undefined,
    request: IncomingMessage,
    response: ServerResponse,
    requestingClient: string,
  ): Promise<void> {
    const body = await this.#read(ask, principal, request, response, requestingClient);
    if (body === undefined) return;
    if (ask.gone) return;
    ask.request = { head: ask.head, body, trailers: () => request.rawTrailers };
    const { channel, admission } = await this.#channelOf(principal);
    await admission.pass(this.#options.replyTimeoutMs);
    if (ask.gone) return;
    this.#claims.asks.set(ask.id, ask);
    this.#watch(ask);
    channel.publish(this.#messageOf(ask, encodeRequest(ask.head, body, request.rawTrailers), requestingClient), true);
  }

  /**
   * The whole body; undefined when a server has taken the request and reads it as it comes. That is so for a large body,
   * or one that is long in coming, when somebody is free: nobody waits before it then.
   */
  async #read(
    ask: Ask,
    principal: Principal | undefined,
    request: IncomingMessage,
    response: ServerResponse,
    requestingClient: string,
  ): Promise<Buffer | undefined> {
    const { streamBytesMin, streamAfterMs } = this.#options;
    const length = announcedLength(request);
    const isLarge = length === undefined || length >= streamBytesMin;
    const crews = [...(this.#claims.get(ask.name)?.crews.values() ?? [])];
    if (isLarge && principal === undefined && crews.some((crew) => crew.canStream)) {
      const whole = await peekBody(request, response, streamBytesMin, streamAfterMs);
      if (whole !== undefined) return whole;
      if (this.#stream(ask, request, requestingClient)) return undefined;
    }
    const { admission } = await this.#channelOf(principal);
    await admission.pass(this.#options.replyTimeoutMs);
    return readBody(request, response, this.#options);
  }

  #stream(ask: Ask, request: IncomingMessage, requestingClient: string): boolean {
    const crews = this.#claims.get(ask.name)?.crews.values() ?? [];
    for (const crew of crews) {
      this.#claims.asks.set(ask.id, ask);
      const streaming = { head: ask.head, body: request, trailers: () => request.rawTrailers };
      if (crew.serveStream({ request: streaming, requestor: ask, requestingClient })) {
        this.#watch(ask, request);
        return true;
      }
      this.#claims.asks.delete(ask.id);
    }
    return false;
  }

  #messageOf(ask: Ask, body: Buffer, requestingClient: string): Message {
    return createMessage({
      exchange: RHTTP_EXCHANGE,
      routingKey: ask.name,
      body,
      properties: {
        contentType: MESSAGE_HTTP,
        correlationId: ask.id,
        replyTo: DIRECT_REPLIES,
        expiration: String(this.#options.replyTimeoutMs),
        headers: { 'requesting-client': requestingClient },
      },
    });
  }

  // ---- time

  /** Ends the ask when nobody serves it, or when its answer does not begin in time after the last of its body. */
  #watch(ask: Ask, upload?: IncomingMessage): void {
    const { replyTimeoutMs, unavailableAfterMs, bodyIdleMs } = this.#options;
    const beganAt = performance.now();
    const beganBytes = upload?.socket.bytesRead ?? 0;
    let deadline = beganAt + replyTimeoutMs;
    let seenBytes = 0;
    const isOver = (): boolean => this.#claims.asks.get(ask.id) !== ask;
    const check = async (): Promise<void> => {
      if (isOver()) return;
      if (upload !== undefined && !upload.complete && upload.socket.bytesRead !== seenBytes) {
        seenBytes = upload.socket.bytesRead;
        if (isTooSlow(seenBytes - beganBytes, beganAt, this.#options)) {
          ask.giveUp(408, 'the body comes too slowly');
          return;
        }
        deadline = performance.now() + Math.min(replyTimeoutMs, bodyIdleMs);
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) {
        ask.giveUp(504, 'the application did not answer in time');
        return;
      }
      const graceMs = ask.serving ? unavailableAfterMs : await this.#graceMs(ask.name);
      if (isOver()) return;
      if (graceMs <= 0 && !ask.serving) {
        ask.fail(504, 'no application is there to serve this');
        await this.#claims.sweep(ask.name);
      } else setTimeout(check, Math.max(1, Math.min(leftMs, graceMs))).unref();
    };
    setTimeout(check, Math.min(replyTimeoutMs, unavailableAfterMs)).unref();
  }

  /**
   * For how long a name may yet go unserved; none is left when nobody has come, gone or served for the whole time. A
   * poller with an answer to deliver is away for a moment.
   */
  async #graceMs(name: string): Promise<number> {
    const { unavailableAfterMs } = this.#options;
    if (await this.#claims.isServed(name).catch(() => false)) return unavailableAfterMs;
    const idleSince = this.#claims.get(name)?.idleSince ?? Number.NEGATIVE_INFINITY;
    return unavailableAfterMs - (performance.now() - idleSince);
  }

  #onEnd(ask: Ask): void {
    const { asks, withdrawn } = this.#claims;
    if (!asks.delete(ask.id) || ask.serving) return;
    withdrawn.add(ask.id);
    setTimeout(() => withdrawn.delete(ask.id), this.#options.replyTimeoutMs).unref();
  }

  // ---- the broker's side

  #channelOf(principal: Principal | undefined): Promise<AskingChannel> {
    const key = principal?.username ?? '';
    let opening = this.#channels.get(key);
    if (opening === undefined) {
      opening = this.#open(key, principal);
      opening.catch(() => this.#channels.delete(key));
      this.#channels.set(key, opening);
    }
    if (key !== '') void opening.then((asking) => asking.timer?.refresh()).catch(() => {});
    return opening;
  }

  async #open(key: string, principal: Principal | undefined): Promise<AskingChannel> {
    const admission = new Admission();
    const events = { ...admission.events, onClose: () => this.#channels.delete(key) };
    const peer = { protocol: 'HTTP', name: key === '' ? 'visitors' : `visitor ${key}` };
    const connection = await this.#broker.connect(principal, undefined, events, peer);
    await admission.settled();
    const channel = connection.openChannel({
      onReturn: ({ properties }) => this.#askOf(properties.correlationId)?.fail(404, 'nobody has claimed this'),
    });
    const onDeliver = (message: Message): void => void this.#onReply(message);
    await channel.consume({ queue: DIRECT_REPLIES, noAck: true }, { onDeliver });
    const close = (): void => {
      this.#channels.delete(key);
      void connection.close();
    };
    const timer = key === '' ? undefined : setTimeout(close, this.#options.replyTimeoutMs + VISITOR_IDLE_MS).unref();
    return { connection, channel, admission, timer };
  }

  #askOf(id: string | undefined): Ask | undefined {
    return id === undefined ? undefined : this.#claims.asks.get(id);
  }

  /** The answer of a consumer that is no server of this door. */
  async #onReply({ properties, body }: Message): Promise<void> {
    const ask = this.#askOf(properties.correlationId);
    if (ask === undefined) return;
    try {
      const { head, body: answer, trailers } = await parseResponse(body, ask.method);
      ask.answer(head, answer, trailers);
    } catch (error) {
      if (asHttpError(error) === undefined) throw error;
      ask.fail(502, 'the answer of the application is invalid');
    }
  }
}

/** A visitor who had to log in here has not shown his password to the application. */
function headOf(request: IncomingMessage, principal: Principal | undefined): RequestHead {
  const { method = '', url: target = '', httpVersion: version, rawHeaders } = request;
  const headers = principal === undefined ? rawHeaders : withoutHeader(rawHeaders, 'authorization');
  return { method, target, version, headers };
}

/** What `node:http` lets pass and two readers could read in two ways. Throws HttpError 400. */
function checkHead({ head: { headers, version } }: Ask): void {
  if (headerCount(headers, 'host') > 1) throw new HttpError(400, 'there are two Host fields');
  if (version === '1.0' && headerCount(headers, 'transfer-encoding') > 0) {
    throw new HttpError(400, 'HTTP/1.0 has no transfer encodings');
  }
}
