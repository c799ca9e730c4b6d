/** One connection to the broker that is going to be killed, and what it asked on its channel, in the ledger. */
import type { Socket } from 'node:net';
import { type Channel, type ChannelModel, type ConfirmChannel, connect, type Message } from 'amqplib';
import type { Copy } from './copy.ts';
import type { Ledger } from './ledger.ts';
import { bodyOf, type Letter, optionsOf, wrongWith } from './letter.ts';
import type { Op, Timeline } from './timeline.ts';
import { BARRIERS, UNACKED } from './topology.ts';

/** A delivery that is not settled yet. */
export interface Held {
  readonly queue: string;
  readonly id: string;
  readonly message: Message;
}

export class Session {
  readonly ledger: Ledger;
  /** In confirm mode. */
  readonly channel: ConfirmChannel;
  /** What is asked on `channel`. */
  readonly timeline: Timeline;
  /** Resolves when the connection is gone, whoever ended it, and everything that had arrived has been looked at. */
  readonly closed: Promise<void>;
  readonly #connection: ChannelModel;
  #hasEnded = false;
  #unconfirmed = 0;
  #onConfirm: (() => void) | undefined;

  private constructor(
    connection: ChannelModel,
    closed: Promise<void>,
    channel: ConfirmChannel,
    timeline: Timeline,
    ledger: Ledger,
  ) {
    this.#connection = connection;
    this.channel = channel;
    this.timeline = timeline;
    this.ledger = ledger;
    this.closed = closed.then(() => {
      this.#hasEnded = true;
      this.#onConfirm?.();
    });
    channel.on('error', () => {});
  }

  /** Rejects when the broker is not there any more. */
  static async open(url: string, name: string, ledger: Ledger): Promise<Session> {
    // Small frames one after the other would wait for each other.
    const connection = await connect(url, { noDelay: true });
    connection.on('error', () => {});
    const closed = new Promise<void>((resolve) => {
      connection.once('close', () => resolve());
    });
    return new Session(connection, closed, await connection.createConfirmChannel(), ledger.timeline(name), ledger);
  }

  get ended(): boolean {
    return this.#hasEnded;
  }

  /** Publishes that wait for their confirm. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /** Orderly goodbye. */
  async close(): Promise<void> {
    // On its own: what is said on the connection overtakes what waits to be sent on the channel.
    await this.channel.close();
    await this.#connection.close();
    await this.closed;
  }

  /** Ends it as a crash of this process would. */
  cut(): void {
    (this.#connection.connection as unknown as { stream: Socket }).stream.destroy(new Error('cut'));
  }

  /** A further channel, not in confirm mode. */
  async furtherChannel(): Promise<Channel> {
    const channel = await this.#connection.createChannel();
    channel.on('error', () => {});
    return channel;
  }

  /** Publishes; `copies` says what the ledger is to expect of it. Calls `onConfirmed` when the broker has taken it. */
  publish(
    exchange: string,
    routingKey: string,
    letter: Letter,
    copies: (op: Op) => readonly Copy[],
    onConfirmed?: () => void,
  ): void {
    const op = this.timeline.ask(`publish of ${letter.id}`);
    const expected = copies(op);
    this.#send(exchange, routingKey, letter, op, expected, onConfirmed);
  }

  /** Resolves when everything asked on the channel until now is on disk, or the connection is gone. */
  async barrier(): Promise<void> {
    const op = this.timeline.ask('barrier');
    const letter = { id: `barrier ${op.index} of ${op.timeline.name}`, bytes: 0, priority: 0, persistent: true };
    await Promise.race([
      new Promise<void>((resolve) => this.#send('', BARRIERS, letter, op, 'barrier', resolve)),
      this.closed,
    ]);
  }

  #send(
    exchange: string,
    routingKey: string,
    letter: Letter,
    op: Op,
    expected: readonly Copy[] | 'barrier',
    onConfirmed?: () => void,
  ): void {
    this.#unconfirmed += 1;
    const body = bodyOf(letter.id, letter.bytes);
    this.channel.publish(exchange, routingKey, body, optionsOf(letter), (error: unknown) => {
      this.#unconfirmed -= 1;
      if (error === null || error === undefined) {
        // A message for one who does not ack may be settled before it was ever stored.
        if (expected === 'barrier') this.ledger.answered(op);
        else {
          const isStored = letter.persistent && expected.some(({ queue }) => !UNACKED.includes(queue));
          this.ledger.answered(op, expected, isStored);
        }
        onConfirmed?.();
      }
      this.#onConfirm?.();
    });
  }

  /** Resolves when fewer than `count` publishes wait for their confirm, or the connection is gone. */
  async confirmedBelow(count: number): Promise<void> {
    while (this.#unconfirmed >= count && !this.#hasEnded) {
      await new Promise<void>((resolve) => {
        this.#onConfirm = resolve;
      });
    }
  }

  /** Takes note of a delivery, and says when it is not what it should be. */
  receive(queue: string, message: Message, redelivered: boolean, notBeforeMs?: number): Held {
    const id = String(message.properties.messageId);
    const count: unknown = message.properties.headers?.['x-delivery-count'];
    this.ledger.arrived(queue, id, this.timeline, {
      redelivered,
      count: queue === 'counted' ? Number(count ?? 0) : undefined,
      ...(notBeforeMs !== undefined && { notBeforeMs }),
    });
    const wrong = wrongWith(message);
    if (wrong !== undefined) this.ledger.violation(`${wrong}, from ${queue}`);
    return { queue, id, message };
  }

  /** Acks; with `multiple` what `held` names must be everything up to its last one that the channel has not settled. */
  ack(held: readonly Held[], multiple: boolean): void {
    const last = held.at(-1);
    if (last === undefined) return;
    const op = this.timeline.ask(multiple ? `ack of ${held.length} up to ${last.id}` : `ack of ${last.id}`);
    for (const { queue, id } of held) this.ledger.removed(op, queue, [id]);
    this.channel.ack(last.message, multiple);
  }

  /** Gives back; `multiple` as for acks. */
  giveBack(held: readonly Held[], multiple: boolean): void {
    const last = held.at(-1);
    if (last === undefined) return;
    const op = this.timeline.ask(`return of ${last.id}`);
    for (const { queue, id } of held) this.ledger.givenBack(op, queue, [id]);
    this.channel.nack(last.message, multiple, true);
  }

  /** Rejects one of the queue `work`; its custody goes on in the queue `dead`. */
  reject({ queue, id, message }: Held): void {
    const op = this.timeline.ask(`reject of ${id}`);
    this.ledger.removed(op, queue, [id]);
    const survives = message.properties.deliveryMode === 2;
    this.ledger.expect('dead', id, { admission: op, stream: this.timeline.name, n: op.index, survives });
    this.channel.nack(message, false, false);
  }
}
