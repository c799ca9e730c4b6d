/** The subscriptions of one session: by their ids, and by what their message-ids begin with. */
import { ReplyError } from './errors.ts';
import { AT, decodeText, sameOctets } from './octets.ts';
import type { Subscription } from './subscription.ts';

/** Subscriptions that a connection may have, those to its reply queues among them. */
export const SUBSCRIPTIONS_MAX = 4096;

/** The refusal of one more. */
export function tooManySubscriptions(): ReplyError {
  return new ReplyError('Too many subscriptions', `a connection may have ${SUBSCRIPTIONS_MAX}`);
}

export class Subscriptions {
  /** By id, or without one by destination; those that have ended too, as long as something of theirs is unacked. */
  readonly #byId = new Map<string, Subscription>();
  readonly #byTagPrefix = new Map<string, Subscription>();
  /** The one acked last: it is mostly the same. */
  #acked: Subscription | undefined;

  /** Throws ReplyError when there are as many as there may be. */
  requireRoom(): void {
    if (this.#byTagPrefix.size >= SUBSCRIPTIONS_MAX) throw tooManySubscriptions();
  }

  get(id: string): Subscription | undefined {
    return this.#byId.get(id);
  }

  /** One that has ended under the same id gives back what it holds. */
  add(subscription: Subscription): void {
    const ended = this.#byId.get(subscription.id);
    if (ended !== undefined) this.close(ended);
    this.#byId.set(subscription.id, subscription);
    this.#byTagPrefix.set(tagPrefixOf(subscription), subscription);
  }

  /** Ends a subscription with all that is unacked of it. */
  close(subscription: Subscription): void {
    subscription.channel.close();
    if (this.#byId.get(subscription.id) === subscription) this.#byId.delete(subscription.id);
    this.#byTagPrefix.delete(tagPrefixOf(subscription));
    if (this.#acked === subscription) this.#acked = undefined;
  }

  /** Closes one that has ended, when nothing of it is unacked any more. */
  closeIfSettled(subscription: Subscription): void {
    if (!subscription.isActive && subscription.unackedCount === 0) this.close(subscription);
  }

  /** The subscription to whose messages the id in `octets[start, end)` belongs: all but the digits at its end says so. */
  ofMessageId(octets: Uint8Array, start: number, end: number): Subscription | undefined {
    const last = this.#acked;
    if (last !== undefined && sameOctets(last.tagPrefix, octets, start, start + last.tagPrefix.length)) return last;
    let to = end;
    while (to > start && octets[to - 1] !== AT) to -= 1;
    this.#acked = this.#byTagPrefix.get(decodeText(octets, start, to));
    return this.#acked;
  }

  /** Nobody delivers. */
  pause(): void {
    for (const { channel } of this.#byId.values()) channel.pause();
  }

  resume(): void {
    for (const { channel } of this.#byId.values()) channel.resume();
  }
}

function tagPrefixOf({ tagPrefix }: Subscription): string {
  return decodeText(tagPrefix, 0, tagPrefix.length);
}
