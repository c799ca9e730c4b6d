/**
 * What happens in the broker, as typed events: for tracing, metrics, presence and the topology page. Without an
 * observer no event is made; observers are called synchronously, must not throw, and must not call back into the
 * broker from inside the call.
 */
import { rethrowLater } from './assert.ts';
import type { Message } from './message.ts';
import type { Alarm, BindingSpec, PeerInfo } from './port.ts';

/** Why a message was dead-lettered or dropped by its queue; the reasons of `x-death`. */
export type DeathReason = 'rejected' | 'expired' | 'maxlen' | 'delivery_limit';

export type BrokerEvent =
  | { readonly type: 'connection-opened' | 'connection-closed'; readonly vhost: string; readonly peer: PeerInfo }
  | { readonly type: 'channel-opened' | 'channel-closed'; readonly vhost: string; readonly peer: PeerInfo }
  | {
      readonly type: 'exchange-declared';
      readonly vhost: string;
      readonly exchange: string;
      /** As in `ExchangeDeclaration.type`. */
      readonly exchangeType: string;
    }
  | { readonly type: 'exchange-deleted'; readonly vhost: string; readonly exchange: string }
  | { readonly type: 'queue-declared' | 'queue-deleted'; readonly vhost: string; readonly queue: string }
  | { readonly type: 'bound' | 'unbound'; readonly vhost: string; readonly binding: BindingSpec }
  | {
      readonly type: 'consumer-added' | 'consumer-removed';
      readonly vhost: string;
      readonly queue: string;
      readonly consumerTag: string;
    }
  | { readonly type: 'published'; readonly vhost: string; readonly message: Message; readonly queueCount: number }
  | { readonly type: 'returned'; readonly vhost: string; readonly message: Message }
  | {
      readonly type: 'delivered';
      readonly vhost: string;
      readonly queue: string;
      readonly message: Message;
      readonly redelivered: boolean;
    }
  | { readonly type: 'acked' | 'requeued'; readonly vhost: string; readonly queue: string; readonly message: Message }
  | {
      readonly type: 'dead-lettered';
      readonly vhost: string;
      readonly queue: string;
      readonly message: Message;
      readonly reason: DeathReason;
    }
  /** What others keep under the name must go: the next user of that name is somebody else. */
  | { readonly type: 'user-deleted'; readonly username: string }
  | { readonly type: 'alarms'; readonly alarms: readonly Alarm[] };

export type Observer = (event: BrokerEvent) => void;

/**
 * What an observer hears of: `everything`, or all but single messages (`topology`), which costs their publishers and
 * consumers nothing.
 */
export type ObserverScope = 'everything' | 'topology';

/** The observers of one broker. Senders ask `active` or `watched` first, so that nobody pays for an event nobody sees. */
export class Observers {
  /** Somebody wants to hear of single messages. */
  active = false;
  /** Somebody wants to hear of anything. */
  watched = false;
  readonly #scopes = new Map<Observer, ObserverScope>();

  /** Adds an observer; the returned function removes it. */
  add(observer: Observer, scope: ObserverScope = 'everything'): () => void {
    this.#scopes.set(observer, scope);
    this.#update();
    return () => {
      this.#scopes.delete(observer);
      this.#update();
    };
  }

  #update(): void {
    this.watched = this.#scopes.size > 0;
    this.active = [...this.#scopes.values()].includes('everything');
  }

  notify(event: BrokerEvent): void {
    if ('message' in event) event.message.keep();
    for (const [observer, scope] of this.#scopes) {
      if (scope === 'topology' && 'message' in event) continue;
      try {
        observer(event);
      } catch (error) {
        rethrowLater(error);
      }
    }
  }
}
