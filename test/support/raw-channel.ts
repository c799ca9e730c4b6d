/** One channel of the raw test client: an inbox of what the broker sent on it, and the usual conversations. */
import { METHODS } from './amqp-methods.ts';
import { type Arguments, encodeMethod, encodeProperties, type Properties, type Table } from './amqp-wire.ts';
import { frame, headerFrame, type Incoming } from './raw-frames.ts';

/** How long to wait for anything the broker is bound to send. */
export const PATIENCE_MS = 5000;

/** Why and how the broker closed a channel or the connection. */
export interface Refusal {
  readonly scope: 'channel' | 'connection';
  readonly code: number;
  readonly text: string;
  /** Name of the method that failed, from its class and method ids; `none` for 0/0. */
  readonly method: string;
}

/** The expected refusal that closes only the channel. */
export const closesChannel = (code: number, text: string, method: string): Refusal => ({
  scope: 'channel',
  code,
  text,
  method,
});

/** The expected refusal that closes the whole connection. */
export const closesConnection = (code: number, text: string, method: string): Refusal => ({
  scope: 'connection',
  code,
  text,
  method,
});

/** Rejects whoever waits for something else when the broker closes a channel or the connection. */
export class ClosedByBroker extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(`the broker closed the ${refusal.scope}: ${refusal.code} ${refusal.text} (${refusal.method})`);
    this.refusal = refusal;
  }
}

/** What a channel needs of its connection. */
interface Link {
  readonly frameMax: number;
  write(octets: Uint8Array): void;
  throwIfClosed(): void;
}

export interface ConsumeOptions {
  readonly consumerTag?: string;
  readonly noAck?: boolean;
  readonly exclusive?: boolean;
  readonly noLocal?: boolean;
  readonly arguments?: Table;
}

export class RawChannel {
  readonly connection: Link;
  readonly number: number;
  #inbox: Incoming[] = [];
  #waiting: (() => void)[] = [];
  #puts = 0;

  constructor(connection: Link, number: number) {
    this.connection = connection;
    this.number = number;
  }

  /** Called by the connection with everything that arrives on this channel. */
  receive(incoming: Incoming): void {
    this.#inbox.push(incoming);
    this.wake();
  }

  /** Lets everybody who waits look again. */
  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const look of waiting) look();
  }

  /** What has arrived and nobody has taken yet. */
  get pending(): readonly Incoming[] {
    return this.#inbox;
  }

  /** Sends a method; arguments that are not given are 0, '', false or an empty table. */
  send(method: string, args?: Arguments): void {
    this.connection.write(frame(1, this.number, encodeMethod(method, args)));
  }

  /** Sends a method and waits for its `-ok`; other things that arrive meanwhile stay in the inbox. */
  async call(method: string, args?: Arguments): Promise<Arguments> {
    this.send(method, args);
    const answer = await this.#take(`${method}-ok`, (incoming) => incoming.name === `${method}-ok`);
    return answer.args;
  }

  /** The next thing that arrives, whatever it is. */
  next(): Promise<Incoming> {
    return this.#take('anything', () => true, true);
  }

  /** The next thing that arrives, which must be `method`. */
  async expect(method: string): Promise<Incoming> {
    const incoming = await this.#take(method, () => true);
    if (incoming.name !== method) throw new Error(`expected ${method}, but the broker sent ${incoming.name}`);
    return incoming;
  }

  /** The next thing that arrives must be a delivery. */
  delivery(): Promise<Incoming> {
    return this.expect('basic.deliver');
  }

  /** The bodies of the next `count` things, which must all be deliveries. */
  async deliveries(count: number): Promise<string[]> {
    const bodies: string[] = [];
    while (bodies.length < count) bodies.push((await this.delivery()).text);
    return bodies;
  }

  /**
   * Everything that has arrived unasked until now, and that the broker had reason to send before this call: two round
   * trips through `queue` are made first.
   */
  async arrived(queue: string): Promise<Incoming[]> {
    await this.call('queue.declare', { queue, passive: true });
    await this.call('queue.declare', { queue, passive: true });
    return this.#inbox.splice(0);
  }

  /** Sends a method and answers how the broker refused it. */
  refused(method: string, args?: Arguments): Promise<Refusal> {
    this.send(method, args);
    return this.closed();
  }

  /** Waits until the broker closes this channel or the connection, which must be the next it does, and agrees to it. */
  async closed(): Promise<Refusal> {
    try {
      const incoming = await this.#take('a close', () => true);
      throw new Error(`expected a close, but the broker sent ${incoming.name} ${JSON.stringify(incoming.args)}`);
    } catch (error) {
      if (error instanceof ClosedByBroker) return error.refusal;
      throw error;
    }
  }

  /** Publishes; `flags` are mandatory and immediate. */
  publish(
    exchange: string,
    routingKey: string,
    body: string | Uint8Array = '',
    properties: Properties = {},
    flags: { readonly mandatory?: boolean; readonly immediate?: boolean } = {},
  ): void {
    const octets = Buffer.from(body as string);
    const bodyMax = this.connection.frameMax - 8;
    const frames = [
      frame(1, this.number, encodeMethod('basic.publish', { exchange, routingKey, ...flags })),
      headerFrame(this.number, octets.length, encodeProperties(properties)),
    ];
    for (let at = 0; at < octets.length; at += bodyMax) {
      frames.push(frame(3, this.number, octets.subarray(at, at + bodyMax)));
    }
    this.connection.write(Buffer.concat(frames));
  }

  /**
   * Publishes in confirm mode (entered at the first call) and waits until the broker has settled it; answers whether it
   * acked. Afterwards every queue that the message was routed to has it. Not to be mixed with `publish`.
   */
  async put(
    exchange: string,
    routingKey: string,
    body: string | Uint8Array = '',
    properties: Properties = {},
  ): Promise<boolean> {
    if (this.#puts === 0) await this.call('confirm.select');
    this.#puts += 1;
    const sequence = this.#puts;
    this.publish(exchange, routingKey, body, properties);
    const isConfirm = ({ name }: Incoming): boolean => name === 'basic.ack' || name === 'basic.nack';
    const confirm = await this.#take(`the confirm of publish ${sequence}`, isConfirm);
    if (confirm.tag !== sequence) throw new Error(`confirm of ${confirm.tag}, not of ${sequence}`);
    return confirm.name === 'basic.ack';
  }

  /** Declares a queue with these arguments, otherwise plain (not durable, not exclusive); answers its name. */
  async queue(queue: string, args: Table = {}, flags: Arguments = {}): Promise<string> {
    const ok = await this.call('queue.declare', { queue, arguments: args, ...flags });
    return ok.queue as string;
  }

  /** Declares an exchange, by default neither durable nor anything else; answers its name. */
  async exchange(exchange: string, type: string, args: Table = {}, flags: Arguments = {}): Promise<string> {
    await this.call('exchange.declare', { exchange, type, arguments: args, ...flags });
    return exchange;
  }

  async bind(queue: string, exchange: string, routingKey = '', args: Table = {}): Promise<void> {
    await this.call('queue.bind', { queue, exchange, routingKey, arguments: args });
  }

  /** Ready messages of a queue. */
  async ready(queue: string): Promise<number> {
    return (await this.call('queue.declare', { queue, passive: true })).messageCount as number;
  }

  /** Consumers of a queue. */
  async consumers(queue: string): Promise<number> {
    return (await this.call('queue.declare', { queue, passive: true })).consumerCount as number;
  }

  /** Starts a consumer; answers its tag. */
  async consume(queue: string, options: ConsumeOptions = {}): Promise<string> {
    return (await this.call('basic.consume', { queue, ...options })).consumerTag as string;
  }

  /** basic.get; undefined when there is nothing. */
  async get(queue: string, noAck = false): Promise<Incoming | undefined> {
    this.send('basic.get', { queue, noAck });
    const answer = await this.#take('get-ok or get-empty', ({ name }) => name.startsWith('basic.get-'));
    return answer.name === 'basic.get-ok' ? answer : undefined;
  }

  /** basic.get of a message that must be there. */
  async mustGet(queue: string, noAck = false): Promise<Incoming> {
    const got = await this.get(queue, noAck);
    if (got === undefined) throw new Error(`nothing to get from '${queue}'`);
    return got;
  }

  /** Takes (no-ack) everything ready in a queue; answers the bodies. */
  async drain(queue: string): Promise<string[]> {
    const bodies: string[] = [];
    for (;;) {
      const got = await this.get(queue, true);
      if (got === undefined) return bodies;
      bodies.push(got.text);
    }
  }

  ack(deliveryTag: number, multiple = false): void {
    this.send('basic.ack', { deliveryTag, multiple });
  }

  nack(deliveryTag: number, options: { readonly multiple?: boolean; readonly requeue?: boolean } = {}): void {
    this.send('basic.nack', { deliveryTag, ...options });
  }

  reject(deliveryTag: number, requeue = false): void {
    this.send('basic.reject', { deliveryTag, requeue });
  }

  /** Waits for confirms until `upTo` is settled; answers for each sequence number whether it was acked. */
  async confirms(upTo: number): Promise<boolean[]> {
    const settled: (boolean | undefined)[] = [];
    const missing = (): boolean => Array.from({ length: upTo }, (_, i) => settled[i]).includes(undefined);
    while (missing()) {
      const confirm = await this.next();
      if (confirm.name !== 'basic.ack' && confirm.name !== 'basic.nack') throw new Error(`got ${confirm.name}`);
      for (let i = confirm.args.multiple ? 0 : confirm.tag - 1; i < confirm.tag; i++) {
        settled[i] ??= confirm.name === 'basic.ack';
      }
    }
    return settled.map(Boolean);
  }

  /** Orderly goodbye of this channel. */
  async close(): Promise<void> {
    await this.call('channel.close', { replyCode: 200, replyText: 'goodbye' });
  }

  /**
   * Takes the first waiting thing that `wanted` accepts. Throws `ClosedByBroker` for a close that was not wanted, after
   * agreeing to it; an error when nothing comes in time or the socket is gone.
   */
  async #take(what: string, wanted: (incoming: Incoming) => boolean, evenClose = false): Promise<Incoming> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const index = this.#inbox.findIndex((incoming) => incoming.name === 'channel.close' || wanted(incoming));
      const [found] = index < 0 ? [] : this.#inbox.splice(index, 1);
      if (found !== undefined) {
        if (found.name !== 'channel.close' || evenClose) return found;
        this.send('channel.close-ok');
        throw new ClosedByBroker(refusalOf(found));
      }
      this.connection.throwIfClosed();
      if (!(await this.#news(deadline - performance.now()))) throw new Error(`the broker did not send ${what} in time`);
    }
  }

  /** Resolves to true when something may have changed, false when the time is up. */
  #news(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }
}

/** What a close method says. */
export function refusalOf(close: Incoming): Refusal {
  const { replyCode, replyText, classId, methodId } = close.args;
  const failed = METHODS.find((method) => method.classId === classId && method.methodId === methodId);
  return {
    scope: close.name === 'channel.close' ? 'channel' : 'connection',
    code: replyCode as number,
    text: replyText as string,
    method: failed?.name ?? (classId === 0 && methodId === 0 ? 'none' : `${classId}/${methodId}`),
  };
}
