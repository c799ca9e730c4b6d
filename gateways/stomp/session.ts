/**
 * One STOMP session, from CONNECTED to its end: a connection of the broker, a channel to publish and to declare on, and a
 * channel for each subscription. Frames are handed to it in order; one that has to wait for the broker answers a promise,
 * and nothing that came after it is handled before.
 */
import type { Message } from '../../broker/message.ts';
import { type Broker, BrokerError, type CancelReason, type Connection } from '../../broker/port.ts';
import type { Outbox } from '../outbox.ts';
import { administer } from './administration.ts';
import { flag, type Headers } from './declarations.ts';
import { DEFECT, type Reply, ReplyError, replyTo } from './errors.ts';
import { type CommandName, commandName, type FrameHead } from './frame-head.ts';
import { encodeFrame } from './frame-text.ts';
import { headerId } from './header-names.ts';
import type { Login } from './login.ts';
import { readDecimal } from './octets.ts';
import type { ResolvedOptions } from './options.ts';
import { ProtocolError } from './protocol-error.ts';
import { Publisher } from './publisher.ts';
import { writeReceipt } from './receipts.ts';
import { ReplyQueues } from './reply-queues.ts';
import { type Address, isMandatory, readMessage } from './sends.ts';
import {
  isDurableSubscription,
  prepareQueue,
  queueWish,
  readSubscribe,
  type SubscribeRequest,
  subscriptionId,
  subscriptionQueue,
  withType,
} from './subscribing.ts';
import { messageNotFound, Subscription, type SubscriptionHost } from './subscription.ts';
import { Subscriptions } from './subscriptions.ts';
import { ensureQueue, type QueueWish, requireDestination, type Target, Targets } from './targets.ts';
import { type Settlement, Transactions } from './transactions.ts';

/** The connection, as its session needs it. */
export interface SessionHost {
  readonly broker: Broker;
  readonly options: ResolvedOptions;
  readonly outbox: Outbox;
  readonly traced: boolean;
  trace(direction: '<' | '>', frame: string): void;
  /** Ends the connection with an ERROR. */
  refuse(reply: Reply, receipt: string | undefined): void;
  /** A defect of Warren is logged; a broken invariant is thrown on. */
  reportDefect(error: unknown): void;
  /** The client has said goodbye, and everything of its session is settled. */
  onDisconnected(): void;
}

const DESTINATION = headerId('destination');
const DESTINATION_TYPE = headerId('destination-type');
const ID = headerId('id');
const MESSAGE_ID = headerId('message-id');
const REPLY_TO = headerId('reply-to');
const REQUEUE = headerId('requeue');
const TRANSACTION = headerId('transaction');
/** Where a session with `warren.soft-error` hears of subscriptions that were ended: `/warren/events`. */
const EVENTS = 'events';

export class Session implements SubscriptionHost {
  readonly sessionId: string;
  readonly version: Login['version'];
  readonly outbox: Outbox;
  readonly topicExchange: string;
  readonly traced: boolean;

  readonly #host: SessionHost;
  readonly #login: Login;
  readonly #connection: Connection;
  readonly #publisher: Publisher;
  readonly #targets: Targets;
  readonly #transactions = new Transactions();
  readonly #replyQueues: ReplyQueues;
  readonly #subscriptions = new Subscriptions();
  #subscriptionCount = 0;
  /** The id of the subscription to events. */
  #events: string | undefined;
  #eventCount = 0;

  /** Throws what `Connection.openChannel` throws. */
  constructor(host: SessionHost, login: Login, connection: Connection, sessionId: string) {
    const { topicExchange } = host.options;
    this.#host = host;
    this.#login = login;
    this.#connection = connection;
    this.sessionId = sessionId;
    this.version = login.version;
    this.outbox = host.outbox;
    this.topicExchange = topicExchange;
    this.traced = host.traced;
    this.#targets = new Targets(topicExchange);
    this.#publisher = new Publisher(connection, {
      onReceipt: (receipt) => this.#writeReceipt(receipt),
      // Not from inside the publish: the end of a connection takes its queues with it.
      onFailure: (error, receipt) => queueMicrotask(() => this.fail(error, receipt)),
    });
    this.#replyQueues = new ReplyQueues(this, connection, this.#publisher.channel, (subscription) =>
      this.#add(subscription),
    );
  }

  trace(direction: '<' | '>', frame: string): void {
    this.#host.trace(direction, frame);
  }

  nextSessionPart(): string {
    this.#subscriptionCount += 1;
    return `${this.sessionId}.${this.#subscriptionCount}`;
  }

  addressOf(destination: string): Address | undefined {
    try {
      return this.#targets.of(destination);
    } catch (error) {
      if (error instanceof ReplyError) return undefined;
      throw error;
    }
  }

  // ---- failures and receipts

  /** A frame has failed: an ERROR and the end, or, where the client has asked for that, a RECEIPT that says so. */
  fail(error: unknown, receipt: string | undefined): void {
    const reply = replyTo(error);
    if (reply === undefined) {
      this.#host.reportDefect(error);
      this.#host.refuse(DEFECT, receipt);
      return;
    }
    const isSoft = receipt !== undefined && this.#login.extensions.has('warren.soft-error');
    if (!isSoft || error instanceof ProtocolError) this.#host.refuse(reply, receipt);
    else {
      const { code, detail } = reply;
      this.#write('RECEIPT', { 'receipt-id': receipt, status: 'error', code: String(code), message: detail.trim() });
    }
  }

  #writeReceipt(receipt: string): void {
    writeReceipt(this.outbox, receipt, this.version);
    if (this.traced) this.trace('>', `RECEIPT ${receipt}`);
  }

  #write(command: 'RECEIPT' | 'MESSAGE', headers: { readonly [name: string]: string | undefined }): void {
    this.outbox.write(encodeFrame(command, headers, '', this.version));
    if (this.traced) this.trace('>', `${command} ${JSON.stringify(headers)}`);
  }

  /** Receipts are written by whoever carries a frame out: at once, or when the verb is settled. */
  #answer(receipt: string | undefined): void {
    if (receipt !== undefined) this.#writeReceipt(receipt);
  }

  // ---- SEND

  /** Whether a SEND brings a message, rather than a change of the configuration. Throws ReplyError. */
  isPublish(head: FrameHead): boolean {
    return this.#targetOf(head).destination.kind !== 'warren';
  }

  /** A SEND whose body ends at `bodyEnd`. Throws and rejects with what is to be told to the peer. */
  onSend(head: FrameHead, bodyEnd: number, receipt: string | undefined): Promise<void> | void {
    const target = this.#targetOf(head);
    if (target.destination.kind === 'warren') return this.#administer(target, head, receipt);
    const mandatory = isMandatory(head);
    const transaction = head.text(TRANSACTION);
    const wanted = head.find(REPLY_TO) < 0 ? undefined : this.#replyQueueIn(head);
    const replyTo = wanted === undefined ? undefined : this.#replyQueues.addressOf(wanted);
    // What comes with the first SEND to a queue says how it is to be made.
    const wish = target.isReady ? undefined : queueWish(head.table());
    const message = readMessage(head, bodyEnd, target, replyTo);
    if (wish === undefined && (wanted === undefined || this.#replyQueues.isOpen(wanted))) {
      return this.#send(message, transaction, mandatory, receipt);
    }
    // Nothing of the head may be looked at from here on: it is read anew with the next frame.
    return this.#prepareSend(target, wish, wanted).then(() => this.#send(message, transaction, mandatory, receipt));
  }

  #send(
    message: Message,
    transaction: string | undefined,
    mandatory: boolean,
    receipt: string | undefined,
  ): Promise<void> | void {
    if (transaction === undefined) return this.#publisher.publish(message, mandatory, receipt);
    this.#transactions.publish(transaction, message, mandatory, receipt);
  }

  /** Makes the queue that is sent to, and the one that replies go to. */
  async #prepareSend(target: Target, wish: QueueWish | undefined, wanted: string | undefined): Promise<void> {
    if (wish !== undefined) {
      await ensureQueue(this.#publisher.channel, target.routingKey, wish).catch((error: unknown) => {
        // Somebody else's queue: its owner alone may use it, but everybody may send to it.
        if (!(error instanceof BrokerError) || error.kind !== 'resource-locked' || wish.isExplicit) throw error;
      });
      target.isReady = true;
    }
    if (wanted !== undefined && !this.#replyQueues.isOpen(wanted)) {
      this.#subscriptions.requireRoom();
      await this.#replyQueues.open(wanted);
    }
  }

  #replyQueueIn(head: FrameHead): string | undefined {
    const replyTo = head.text(REPLY_TO) ?? '';
    return this.#replyQueues.isWanted(replyTo) ? replyTo : undefined;
  }

  #targetOf(head: FrameHead): Target {
    const index = head.find(DESTINATION);
    if (index < 0) requireDestination(undefined);
    if (head.irregular || head.find(DESTINATION_TYPE) >= 0) {
      const text = head.valueAt(index);
      const { kind } = withType(requireDestination(text), head.table());
      return this.#targets.of(kind === 'topic' && !text.startsWith('/') ? `/topic/${text}` : text);
    }
    const start = (head.colons[index] as number) + 1;
    return this.#targets.lookup(head.octets, start, head.ends[index] as number, this.version);
  }

  async #administer(target: Target, head: FrameHead, receipt: string | undefined): Promise<void> {
    if (!this.#login.extensions.has('warren.admin')) {
      throw new ReplyError(
        'Unknown destination',
        '/warren/ is for clients that CONNECT with accept-extensions:warren.admin',
      );
    }
    if (head.find(TRANSACTION) >= 0) {
      throw new ReplyError('Bad transaction', 'a change of the configuration cannot be part of a transaction');
    }
    const context = { broker: this.#host.broker, connection: this.#connection, channel: this.#publisher.channel };
    const results = await administer(target.destination.name, context, head.table());
    if (receipt !== undefined) this.#write('RECEIPT', { 'receipt-id': receipt, ...results });
  }

  // ---- ACK and NACK

  /** ACK, or with `negative` NACK. Throws what is to be told to the peer. */
  onSettle(head: FrameHead, negative: boolean, receipt: string | undefined): void {
    // Clients confuse the two headers of 1.1 and 1.2; both are accepted in every version.
    const [first, second] = this.version === 12 ? [ID, MESSAGE_ID] : [MESSAGE_ID, ID];
    const index = head.find(first) >= 0 ? head.find(first) : head.find(second);
    if (index < 0) {
      throw new ReplyError('Missing Header', `the header '${this.version === 12 ? 'id' : 'message-id'}' must be there`);
    }
    const start = (head.colons[index] as number) + 1;
    const end = head.ends[index] as number;
    const subscription = this.#subscriptions.ofMessageId(head.octets, start, end);
    if (subscription === undefined) throw messageNotFound(head.valueAt(index));
    const tag = readDecimal(head.octets, start + subscription.tagPrefix.length, end);
    const isOpen = subscription.requireTag(tag, head.valueAt(index));
    if (isOpen) {
      const verdict = negative ? this.#verdictOf(head) : 'ack';
      const transaction = head.text(TRANSACTION);
      if (transaction !== undefined) this.#transactions.settle(transaction, { subscription, tag, verdict });
      else this.#settle({ subscription, tag, verdict });
    }
    this.#answer(receipt);
  }

  #verdictOf(head: FrameHead): 'requeue' | 'discard' {
    const index = head.find(REQUEUE);
    const requeue =
      index < 0 ? this.#host.options.nackRequeue : flag(new Map([['requeue', head.valueAt(index)]]), 'requeue', true);
    return requeue ? 'requeue' : 'discard';
  }

  #settle({ subscription, tag, verdict }: Settlement): void {
    subscription.settle(tag, verdict);
    if (!subscription.isActive) this.#subscriptions.closeIfSettled(subscription);
  }

  // ---- every other frame

  /** Any frame but SEND, ACK and NACK. Throws and rejects with what is to be told to the peer. */
  onCommand(head: FrameHead, receipt: string | undefined): Promise<void> | void {
    const command = commandName(head.command);
    const verb = this.#carryOut(command, head.table());
    if (verb !== undefined) {
      return verb.then(() => {
        this.#answer(receipt);
        if (command === 'DISCONNECT') this.#host.onDisconnected();
      });
    }
    return this.#answer(receipt);
  }

  #carryOut(command: CommandName, headers: Headers): Promise<void> | void {
    switch (command) {
      case 'SUBSCRIBE':
        return this.#subscribe(headers);
      case 'UNSUBSCRIBE':
        return this.#unsubscribe(headers);
      case 'BEGIN':
        return this.#transactions.begin(transactionIn(headers));
      case 'COMMIT':
        return this.#commit(transactionIn(headers));
      case 'ABORT':
        this.#transactions.end(transactionIn(headers));
        return undefined;
      case 'DISCONNECT':
        return this.#disconnect();
      default:
        throw new ReplyError('Already connected', `a second ${command} in one session`);
    }
  }

  async #commit(name: string): Promise<void> {
    const { publications, settlements } = this.#transactions.end(name);
    await this.#publisher.publishTogether(publications);
    for (const { receipt } of publications) this.#answer(receipt);
    const failures: unknown[] = [];
    for (const settlement of settlements) {
      try {
        this.#settle(settlement);
      } catch (error) {
        // One that was settled twice, or whose subscription is gone, is no reason to keep the others waiting.
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Everything owed is said, and exclusive queues are gone, before the receipt. */
  async #disconnect(): Promise<void> {
    this.#subscriptions.pause();
    await this.#publisher.settled();
    await this.#connection.close();
  }

  async #subscribe(headers: Headers): Promise<void> {
    const request = readSubscribe(headers);
    const id = subscriptionId(headers);
    if (this.#subscriptions.get(id)?.isActive || this.#events === id) {
      throw new ReplyError(
        'Duplicated subscription identifier',
        `A subscription identified by '${id}' already exists.`,
      );
    }
    this.#subscriptions.requireRoom();
    if (request.destination.kind === 'warren') return this.#subscribeToEvents(request, id);
    const context = { topicExchange: this.topicExchange, owner: this.#login.clientId ?? '' };
    const queue = await prepareQueue(this.#publisher.channel, request, headers, context);
    const channel = this.#connection.openChannel();
    const subscription = new Subscription(this, channel, { id, hasId: headers.has('id'), mode: request.mode });
    subscription.queue = queue;
    const { mode, prefetch, exclusive, arguments: args } = request;
    try {
      if (prefetch > 0) channel.prefetch(prefetch);
      const spec = { queue, noAck: mode === 'auto', exclusive, arguments: args };
      subscription.consumerTag = await channel.consume(spec, subscription);
    } catch (error) {
      channel.close();
      throw error;
    }
    this.#add(subscription);
    return undefined;
  }

  #add(subscription: Subscription): void {
    this.#subscriptions.add(subscription);
    if (this.outbox.full) subscription.channel.pause();
  }

  #subscribeToEvents({ destination }: SubscribeRequest, id: string): void {
    if (destination.name !== EVENTS || !this.#login.extensions.has('warren.soft-error')) {
      throw new ReplyError(
        'Unknown destination',
        '/warren/events is for clients that CONNECT with accept-extensions:warren.soft-error; no other can be subscribed to',
      );
    }
    this.#events = id;
  }

  async #unsubscribe(headers: Headers): Promise<void> {
    const id = subscriptionId(headers);
    if (this.#events === id) {
      this.#events = undefined;
      return;
    }
    const subscription = this.#subscriptions.get(id);
    if (subscription?.isActive) await this.#end(subscription);
    else if (!isDurableSubscription(headers) || !headers.has('destination')) {
      throw new ReplyError('Subscription not found', `There is no subscription '${id}'.`, 404);
    }
    if (!isDurableSubscription(headers)) return;
    // The durable subscription itself goes, with all that waits in its queue. [RabbitMQ: Topic Destinations]
    const queue = subscription?.queue ?? subscriptionQueue(headers, true, this.#login.clientId ?? '');
    await this.#publisher.channel.deleteQueue(queue);
  }

  /** No more deliveries; what is unacked can still be acked, and goes back to its queue when the session ends. */
  async #end(subscription: Subscription): Promise<void> {
    subscription.isActive = false;
    this.#replyQueues.forget(subscription.id);
    await subscription.channel.cancel(subscription.consumerTag);
    this.#subscriptions.closeIfSettled(subscription);
  }

  onSubscriptionCancelled(subscription: Subscription, reason: CancelReason, explanation: string): void {
    // At a shutdown what was delivered may still be acked; the end of the connection comes later.
    if (reason === 'shutdown') return;
    subscription.isActive = false;
    this.#replyQueues.forget(subscription.id);
    if (this.#events === undefined) {
      const detail = `The server has canceled a subscription.\nNo more messages will be delivered for '${subscription.id}': ${explanation}.\n`;
      const reply = { message: 'Server cancelled subscription', detail, code: 320 };
      // Not from inside the deletion of a queue, for the same reason.
      queueMicrotask(() => this.#host.refuse(reply, undefined));
      return;
    }
    this.#eventCount += 1;
    this.#write('MESSAGE', {
      subscription: this.#events,
      'message-id': `E_${this.#events}@@${this.sessionId}@@${this.#eventCount}`,
      destination: `/warren/${EVENTS}`,
      event: 'subscription-cancelled',
      'cancelled-subscription': subscription.id,
      reason,
      explanation,
    });
    // A timeout has put back what was unacked.
    if (reason === 'timeout') this.#subscriptions.close(subscription);
    else this.#subscriptions.closeIfSettled(subscription);
  }

  /** Resolves when no receipt is owed any more. */
  settled(): Promise<void> {
    return this.#publisher.settled();
  }

  // ---- flow

  /** The outbox is full: nobody delivers. */
  pause(): void {
    this.#subscriptions.pause();
  }

  resume(): void {
    this.#subscriptions.resume();
  }
}

function transactionIn(headers: Headers): string {
  const name = headers.get('transaction');
  if (name === undefined) throw new ReplyError('Missing Header', "the header 'transaction' must be there");
  return name;
}
