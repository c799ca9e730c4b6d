/** Looks at everything that is there after a restart, holds it against the ledger, and disposes of some of it. */
import type { Channel, Message } from 'amqplib';
import { eventually } from '../eventually.ts';
import { administered } from './administrator.ts';
import type { Ledger } from './ledger.ts';
import type { Random } from './random.ts';
import { type Held, Session } from './session.ts';
import { BARRIERS, BINDING_KIND, EXCHANGE_KIND, QUEUE_KIND, QUEUES } from './topology.ts';
import type { Orders, Victim } from './victim.ts';

/** How long what is due may take to come. */
const PATIENCE_MS = 10_000;
/** So many of the names that ended are looked for. */
const GONE_MAX = 15;
/** In a queue with more messages most are settled, so that a run of many rounds does not slow down. */
const KEPT_MAX = 400;
const PROBE = 'probe';

export class Inspection {
  readonly #session: Session;
  readonly #orders: Orders | undefined;
  readonly #ledger: Ledger;
  readonly #random: Random;
  readonly #held = new Map<string, Held[]>();
  readonly #consumers: string[] = [];

  private constructor(session: Session, orders: Orders | undefined, random: Random) {
    this.#session = session;
    this.#orders = orders;
    this.#ledger = session.ledger;
    this.#random = random;
  }

  /**
   * Compares all with the ledger, settles some, and gives the rest back. Rejects when the broker dies meanwhile; then
   * what was received and settled is in the ledger.
   */
  static async run(victim: Victim, ledger: Ledger, random: Random, name: string): Promise<void> {
    const inspection = new Inspection(await Session.open(victim.amqpUrl, name, ledger), victim.orders, random);
    try {
      await inspection.#run();
    } finally {
      // Either it has said goodbye, or the broker is gone.
      await inspection.#session.closed;
    }
  }

  async #run(): Promise<void> {
    const seen = await new Names(this.#session).look();
    if (this.#orders !== undefined) {
      const administering = administered(this.#orders);
      // Orders to a dead process are never answered.
      await Promise.race([administering, this.#session.closed]);
      if (!this.#session.ended) for (const [kind, ids] of await administering) seen.set(kind, ids);
    }
    const queues = [...QUEUES.map(({ name }) => name), ...(seen.get(QUEUE_KIND) ?? [])];
    await this.#receive(queues);
    const everything = (): Map<string, string[]> => {
      const all = new Map(seen);
      for (const [queue, held] of this.#held)
        all.set(
          queue,
          held.map(({ id }) => id),
        );
      return all;
    };
    await this.#untilStill(queues, () => this.#ledger.overdue(everything()));
    if (this.#session.ended) throw new Error('the broker died while it was looked at');
    this.#ledger.compare(everything());
    // What is given back must not come again.
    for (const tag of this.#consumers) await this.#session.channel.cancel(tag);
    for (const [queue, held] of this.#held) this.#dispose(queue, held);
    if (this.#random.chance(0.7)) await this.#session.barrier();
    await this.#session.close();
    for (const [queue, held] of this.#held) {
      this.#ledger.givenBack(
        undefined,
        queue,
        held.map(({ id }) => id),
      );
    }
  }

  async #receive(queues: readonly string[]): Promise<void> {
    const { channel } = this.#session;
    for (const queue of queues) {
      const held: Held[] = [];
      this.#held.set(queue, held);
      this.#ledger.opened(queue);
      const notBeforeMs = Date.now();
      const { consumerTag } = await channel.consume(queue, (message) => {
        if (message === null) return;
        if (message.properties.messageId === PROBE) channel.ack(message);
        else held.push(this.#session.receive(queue, message, message.fields.redelivered, notBeforeMs));
      });
      this.#consumers.push(consumerTag);
    }
  }

  /** Until nothing is ready any more: then all has been sent before the answer that says so. */
  async #untilStill(queues: readonly string[], overdue: () => readonly string[]): Promise<void> {
    await eventually(
      async () => {
        for (const queue of queues) {
          const { messageCount } = await this.#session.channel.checkQueue(queue);
          if (messageCount > 0) throw new Error(`${messageCount} messages of ${queue} do not come`);
        }
        const late = overdue();
        if (late.length > 0) throw new Error(`not there although due: ${late.slice(0, 5).join(', ')}`);
      },
      { timeoutMs: PATIENCE_MS },
    ).catch((error: unknown) => {
      if (this.#session.ended) throw error;
      this.#ledger.violation(String(error));
    });
  }

  #dispose(queue: string, all: Held[]): void {
    const choice = this.#random.next();
    if (all.length > KEPT_MAX)
      for (const held of all.splice(0, all.length - KEPT_MAX)) this.#session.ack([held], false);
    if (choice < 0.5) return;
    const share = choice < 0.75 ? 0.5 : 1;
    const taken = all.filter(() => this.#random.chance(share));
    all.splice(0, all.length, ...all.filter((held) => !taken.includes(held)));
    for (const held of taken) {
      if (choice > 0.95) this.#session.giveBack([held], false);
      else if (queue === 'work' && choice > 0.9) this.#session.reject(held);
      else this.#session.ack([held], false);
    }
  }
}

/** Which of the declared names there are. Asking for one that is not there costs a channel. */
class Names {
  readonly #session: Session;
  #asking: Promise<Channel>;

  constructor(session: Session) {
    this.#session = session;
    this.#asking = this.#open();
  }

  #open(): Promise<Channel> {
    const opening = this.#session.furtherChannel();
    // The broker may die before anybody asks on it.
    opening.catch(() => {});
    return opening;
  }

  async look(): Promise<Map<string, string[]>> {
    const { ledger } = this.#session;
    const candidates = (kind: string): string[] => [...ledger.possible(kind), ...ledger.gone(kind).slice(-GONE_MAX)];
    await this.#isThere((channel) => channel.checkQueue(BARRIERS));
    const queues = await this.#those(candidates(QUEUE_KIND), (channel, name) => channel.checkQueue(name));
    const exchanges = await this.#those(candidates(EXCHANGE_KIND), (channel, name) => channel.checkExchange(name));
    const bindings: string[] = [];
    for (const id of candidates(BINDING_KIND)) {
      const exchange = id.slice(0, id.indexOf('>'));
      if (exchanges.includes(exchange) && (await this.#routes(exchange))) bindings.push(id);
    }
    return new Map([
      [QUEUE_KIND, queues],
      [EXCHANGE_KIND, exchanges],
      [BINDING_KIND, bindings],
    ]);
  }

  async #those(
    names: readonly string[],
    check: (channel: Channel, name: string) => Promise<unknown>,
  ): Promise<string[]> {
    const found: string[] = [];
    for (const name of names) if (await this.#isThere((channel) => check(channel, name))) found.push(name);
    return found;
  }

  async #isThere(check: (channel: Channel) => Promise<unknown>): Promise<boolean> {
    try {
      await check(await this.#asking);
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 404) throw error;
      this.#asking = this.#open();
      return false;
    }
  }

  /** Whether a message of the key comes to anybody. */
  async #routes(exchange: string): Promise<boolean> {
    const { channel } = this.#session;
    let isReturned = false;
    const onReturn = (_message: Message): void => {
      isReturned = true;
    };
    channel.on('return', onReturn);
    channel.publish(exchange, 'key', Buffer.alloc(0), { messageId: PROBE, mandatory: true });
    await channel.waitForConfirms();
    channel.off('return', onReturn);
    return !isReturned;
  }
}
