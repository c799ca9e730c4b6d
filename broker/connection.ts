/** A connection: one peer in one virtual host. Owns its channels and exclusive queues and takes them along. */

import { checkUserChannels } from './access/limits.ts';
import { callOut } from './assert.ts';
import { Channel } from './channel/channel.ts';
import type { Engine } from './engine.ts';
import {
  BrokerError,
  type ChannelEvents,
  type ConnectionEvents,
  type PeerInfo,
  type Connection as PortConnection,
  type Principal,
} from './port.ts';
import type { Queue } from './queue/queue.ts';
import type { VirtualHost } from './vhost.ts';

export class Connection implements PortConnection {
  readonly engine: Engine;
  readonly host: VirtualHost;
  readonly peer: PeerInfo;
  readonly events: ConnectionEvents;
  readonly channels = new Map<number, Channel>();
  /** Exclusive queues: deleted with the connection. */
  readonly ownedQueues = new Set<Queue>();
  #principal: Principal;
  #closed = false;
  #lastNumber = 0;

  constructor(
    engine: Engine,
    host: VirtualHost,
    principal: Principal,
    events: Partial<ConnectionEvents>,
    peer: PeerInfo,
  ) {
    this.engine = engine;
    this.host = host;
    this.peer = peer;
    this.events = {
      onClose: (error) => callOut(() => events.onClose?.(error)),
      onAlarms: (alarms) => callOut(() => events.onAlarms?.(alarms)),
      onFlow: (held) => callOut(() => events.onFlow?.(held)),
    };
    this.#principal = principal;
  }

  get principal(): Principal {
    return this.#principal;
  }

  get vhost(): string {
    return this.host.name;
  }

  openChannel(events: Partial<ChannelEvents> = {}, number = this.#freeNumber()): Channel {
    if (this.#closed) throw new BrokerError('connection-forced', 'the connection is closed');
    if (this.channels.has(number)) throw new BrokerError('not-allowed', `channel ${number} is open already`);
    const { username } = this.#principal;
    const limits = this.engine.userLimits(this.#principal);
    if (limits.maxChannels !== undefined) checkUserChannels(limits, this.engine.channelsOf(username), username);
    const channel = new Channel(this, number, {
      onReturn: (message) => events.onReturn?.(message),
      onConfirm: (sequence, multiple, accepted) => events.onConfirm?.(sequence, multiple, accepted),
    });
    this.channels.set(number, channel);
    this.#notify('channel-opened');
    return channel;
  }

  #freeNumber(): number {
    do this.#lastNumber++;
    while (this.channels.has(this.#lastNumber));
    return this.#lastNumber;
  }

  renew(principal: Principal): void {
    if (principal.username !== this.#principal.username) {
      throw new BrokerError('not-allowed', 'a connection cannot change its user');
    }
    this.#principal = principal;
  }

  /** For the channel. */
  channelClosed(channel: Channel): void {
    this.channels.delete(channel.number);
    this.#notify('channel-closed');
  }

  /** Before it closes: what one of its channels gives back shall not go to another that is about to close, too. */
  pause(): void {
    for (const channel of this.channels.values()) channel.pause();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.pause();
    for (const channel of [...this.channels.values()]) channel.close();
    for (const queue of [...this.ownedQueues]) this.host.deleteQueue(queue);
    this.host.connections.delete(this);
    this.engine.connectionClosed(this);
  }

  #notify(type: 'channel-opened' | 'channel-closed'): void {
    const { observers } = this.host;
    if (observers.watched) observers.notify({ type, vhost: this.vhost, peer: this.peer });
  }
}
