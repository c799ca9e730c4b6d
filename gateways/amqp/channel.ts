/**
 * One AMQP channel as the door sees it: its content assembly, what it holds of confirms, why its deliveries are paused,
 * and what it says. Everything that belongs to the model (tags, prefetch, unacked, transactions) is behind `broker`.
 *
 * After `channel.close` from this side, frames of the peer are dropped until its `close-ok` [AMQP 1.5.2.5].
 */
import type { Message } from '../../broker/message.ts';
import {
  BrokerError,
  type CancelReason,
  type Channel,
  type ChannelEvents,
  type Connection,
} from '../../broker/port.ts';
import type { Outbox } from '../outbox.ts';
import { Confirms } from './confirms.ts';
import { FRAME_END, FRAME_METHOD, METHOD_BASIC_ACK, METHOD_BASIC_NACK } from './constants.ts';
import { ContentAssembly } from './content.ts';
import { writeReturn } from './deliveries.ts';
import { type Reply, replyText } from './errors.ts';
import { describeArguments } from './frame-text.ts';
import { encodeMethod, type MethodArguments, type MethodName } from './methods.ts';

/** Octets of a basic.ack or basic.nack frame. */
const SETTLE_FRAME_BYTES = 21;
const SETTLE_PAYLOAD_BYTES = 13;

/** What a channel needs of the connection that it is on. */
export interface ChannelHost {
  readonly outbox: Outbox;
  /** Largest payload of a body frame to this peer. */
  readonly payloadBytesMax: number;
  /** The peer wants to know when a consumer is cancelled. */
  readonly wantsCancelNotice: boolean;
  readonly traced: boolean;
  trace(direction: '<' | '>', frame: string): void;
  /** For the log: channel `number` is being closed because of an error. */
  onChannelRefused(number: number, reply: Reply): void;
  /** This channel holds confirms; `flushConfirms` is to be called before the next flush. */
  confirmsHeld(channel: AmqpChannel): void;
}

export class AmqpChannel implements ChannelEvents {
  readonly number: number;
  readonly outbox: Outbox;
  readonly payloadBytesMax: number;
  readonly traced: boolean;
  readonly content = new ContentAssembly();
  readonly broker: Channel;
  /** False from the moment a `channel.close` has been sent; nothing but its answer is written from then on. */
  open = true;
  /** The queue declared last on this channel: what an empty queue name means. */
  lastQueue = '';

  readonly #host: ChannelHost;
  #confirms: Confirms | undefined;
  #confirmsAnnounced = false;
  /** The peer has asked for no deliveries (channel.flow); the outbox is full. */
  #flowStopped = false;
  #outboxFull: boolean;

  /** Opens the channel in the broker. Throws what `Connection.openChannel` throws. */
  constructor(host: ChannelHost, connection: Connection, number: number) {
    this.#host = host;
    this.number = number;
    this.outbox = host.outbox;
    this.payloadBytesMax = host.payloadBytesMax;
    this.traced = host.traced;
    this.#outboxFull = host.outbox.full;
    this.broker = connection.openChannel(
      {
        onReturn: (message) => this.onReturn(message),
        onConfirm: (sequence, multiple, accepted) => this.onConfirm(sequence, multiple, accepted),
      },
      number,
    );
    if (this.#outboxFull) this.broker.pause();
  }

  /** Writes a method frame; nothing when the channel is not open any more. */
  send<M extends MethodName>(name: M, args: MethodArguments<M>): void {
    if (!this.open) return;
    this.outbox.write(encodeMethod(this.number, name, args));
    if (this.traced) this.trace('>', `${name} ${describeArguments(args)}`);
  }

  trace(direction: '<' | '>', frame: string, message?: Message): void {
    const content =
      message === undefined ? '' : ` ${message.exchange}/${message.routingKey} ${message.bodyBytes} octets`;
    this.#host.trace(direction, `${this.number} ${frame}${content}`);
  }

  onReturn(message: Message): void {
    writeReturn(this, message);
  }

  onConfirm(sequence: number, multiple: boolean, accepted: boolean): void {
    if (!this.open) return;
    this.#confirms ??= new Confirms();
    if (!accepted) {
      this.flushConfirms();
      this.#confirms.refuse(sequence, multiple);
      this.#writeSettlement(METHOD_BASIC_NACK, sequence, multiple);
    } else if (!this.#confirms.accept(sequence, multiple)) {
      this.#writeSettlement(METHOD_BASIC_ACK, sequence, false);
    } else if (!this.#confirmsAnnounced) {
      this.#confirmsAnnounced = true;
      this.#host.confirmsHeld(this);
    }
  }

  /** Writes the confirms that are held. */
  flushConfirms(): void {
    this.#confirmsAnnounced = false;
    const held = this.#confirms?.take() ?? 0;
    if (held !== 0 && this.open) this.#writeSettlement(METHOD_BASIC_ACK, Math.abs(held), held < 0);
  }

  #writeSettlement(method: number, tag: number, multiple: boolean): void {
    const { outbox } = this;
    const at = outbox.reserve(SETTLE_FRAME_BYTES);
    const { octets, view } = outbox;
    octets[at] = FRAME_METHOD;
    view.setUint16(at + 1, this.number);
    view.setUint32(at + 3, SETTLE_PAYLOAD_BYTES);
    view.setUint32(at + 7, method);
    view.setUint32(at + 11, Math.floor(tag / 2 ** 32));
    view.setUint32(at + 15, tag);
    octets[at + 19] = multiple ? 1 : 0;
    octets[at + 20] = FRAME_END;
    outbox.end = at + SETTLE_FRAME_BYTES;
    if (this.traced)
      this.trace('>', `basic.${method === METHOD_BASIC_ACK ? 'ack' : 'nack'} ${tag} multiple=${multiple}`);
  }

  /**
   * The broker has ended a consumer. Only a peer that said he understands is told [RabbitMQ: consumer cancel notification];
   * another loses his channel over a timeout, since his acks would fail later and he would not know why.
   */
  consumerCancelled(consumerTag: string, reason: CancelReason, explanation: string): void {
    if (!this.open) return;
    if (this.#host.wantsCancelNotice) this.send('basic.cancel', { consumerTag, noWait: true });
    else if (reason === 'timeout') this.refuse({ code: 406, explanation }, 0);
  }

  /** channel.flow from the peer: deliver, or not. */
  set flow(active: boolean) {
    this.#flowStopped = !active;
    this.#pauseOrResume();
  }

  /** The outbox is full, or has room again. */
  set outboxFull(full: boolean) {
    this.#outboxFull = full;
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    if (this.#flowStopped || this.#outboxFull) this.broker.pause();
    else this.broker.resume();
  }

  /** Ends the channel because of an error: confirms first, then `channel.close`. */
  refuse(reply: Reply, methodId: number): void {
    this.#host.onChannelRefused(this.number, reply);
    this.flushConfirms();
    this.send('channel.close', {
      replyCode: reply.code,
      replyText: replyText(reply),
      classId: methodId >>> 16,
      methodId: methodId & 0xffff,
    });
    this.open = false;
    this.content.reset();
    this.broker.close();
  }

  /** Ends the channel as the peer has asked: what it is owed comes before the `close-ok`. */
  close(): void {
    this.flushConfirms();
    this.content.reset();
    this.broker.close();
    this.flushConfirms();
    this.send('channel.close-ok', {});
    this.open = false;
  }

  /** The connection is ending: says what is still to be said, and nothing from then on. */
  fallSilent(): void {
    this.flushConfirms();
    this.open = false;
  }

  /** The queue that `queue` means. Throws not-found when it is '' and none was declared. [AMQP 1.7.2.3] */
  queueNamed(queue: string): string {
    const name = queue === '' ? this.lastQueue : withoutLineBreaks(queue);
    if (name === '') throw new BrokerError('not-found', 'no previously declared queue');
    return name;
  }
}

/** Names lose their line breaks, as in RabbitMQ. */
export function withoutLineBreaks(name: string): string {
  return name.includes('\n') || name.includes('\r') ? name.replace(/[\r\n]/g, '') : name;
}
