/**
 * The crew of a claim: the servers of one user, behind one consumer of the claim's queue. Every free slot of theirs is
 * credit of that consumer: a parked poll is one slot, so is a reversed HTTP/1.1 connection, and an HTTP/2 connection has
 * as many as it takes streams. So a request leaves the queue when somebody is free for it and not before, and whoever else
 * consumes from the queue, over AMQP say, takes his turns with them.
 *
 * Invariant: the consumer's prefetch is what it holds plus the free slots; without any it is paused.
 */

import type { Message } from '../../broker/message.ts';
import { BrokerError, type CancelReason, type Channel, type Connection, type Principal } from '../../broker/port.ts';
import { Errand, type ErrandRequest, type Settlement } from './errand.ts';
import type { Requestor } from './requestor.ts';

/** Somebody who serves requests. */
export interface Server {
  /** True if it can take a body that is still coming. */
  readonly streams: boolean;
  /** Can it change to this protocol, as far as is known before it is asked? */
  changesTo(protocol: string): boolean;
  /** Takes a request; one slot is busy until the errand is settled. */
  serve(errand: Errand): void;
  /** The claim has ended: no more requests. What is being served goes on. */
  dismiss(): void;
}

export interface CrewHost {
  /** Where the answer to a message goes. */
  requestorOf(message: Message, redelivered: boolean, crew: Crew): Requestor;
  /** The request behind a message, where this door has read it itself. */
  requestOf(message: Message): ErrandRequest | undefined;
  /** A server came or went, or a request ended. */
  onCrewChange(crew: Crew): void;
  /** The broker has ended it; its servers have been dismissed. */
  onCrewEnd(crew: Crew, reason: string): void;
}

/** A request that does not go through the queue. */
interface Direct {
  readonly request: ErrandRequest;
  readonly requestor: Requestor;
  readonly requestingClient: string;
}

interface Post {
  readonly server: Server;
  slots: number;
  busy: number;
}

export class Crew {
  /** The claim's. */
  readonly name: string;
  readonly principal: Principal;
  readonly channel: Channel;
  readonly #connection: Connection;
  readonly #host: CrewHost;
  readonly #posts = new Map<Server, Post>();
  /** Servers with a free slot, by the number of busy ones; the longest waiting first. */
  readonly #free: Set<Post>[] = [];
  #freeSlots = 0;
  #slots = 0;
  /** Requests for another protocol that wait for a server which can change to it, in their order. */
  readonly #waiting = new Set<Direct>();
  /** Deliveries that are not settled. */
  #held = 0;
  /** Requests being served that came past the queue. */
  #direct = 0;
  #credit = 0;
  #consumerTag: string | undefined;
  #ended = false;

  /** `connection` is this crew's own and ends with it; `start` before anything else. */
  constructor(name: string, connection: Connection, host: CrewHost) {
    this.name = name;
    this.principal = connection.principal;
    this.#connection = connection;
    this.#host = host;
    this.channel = connection.openChannel();
    this.channel.pause();
  }

  /** Begins to consume from `queue`. Rejects with BrokerError. */
  async start(queue: string): Promise<void> {
    this.#consumerTag = await this.channel.consume(
      { queue },
      {
        onDeliver: (message, tag, redelivered) => this.#onDeliver(message, tag, redelivered),
        onCancel: (reason: CancelReason, explanation: string) => {
          if (reason !== 'timeout') this.onBrokerEnd(explanation);
        },
      },
    );
    this.#applyCredit();
  }

  /** As consumers are listed. */
  get connectionName(): string {
    return this.#connection.peer.name;
  }

  get slots(): number {
    return this.#slots;
  }

  get freeSlots(): number {
    return this.#freeSlots;
  }

  /** Is somebody free who can take a body that is still coming? */
  get canStream(): boolean {
    return !this.#ended && this.#leastBusy((server) => server.streams) !== undefined;
  }

  get serverCount(): number {
    return this.#posts.size;
  }

  /** Requests being served. */
  get busy(): number {
    return this.#held + this.#direct;
  }

  has(server: Server): boolean {
    return this.#posts.has(server);
  }

  /** Its slots are credit from now on. After the end of the crew it is dismissed at once. */
  enter(server: Server, slots: number): void {
    if (this.#ended) {
      server.dismiss();
      return;
    }
    const post = { server, slots, busy: 0 };
    this.#posts.set(server, post);
    this.#slots += slots;
    this.#putFree(post);
    this.#serveWaiting();
    this.#applyCredit();
    this.#host.onCrewChange(this);
  }

  /** It takes no more requests; what it serves goes on. Idempotent. */
  leave(server: Server): void {
    const post = this.#posts.get(server);
    if (post === undefined) return;
    this.#takeFree(post);
    this.#posts.delete(server);
    this.#slots -= post.slots;
    post.slots = 0;
    this.#applyCredit();
    this.#host.onCrewChange(this);
  }

  resize(server: Server, slots: number): void {
    const post = this.#posts.get(server);
    if (post === undefined || post.slots === slots) return;
    this.#takeFree(post);
    this.#slots += slots - post.slots;
    post.slots = slots;
    this.#putFree(post);
    this.#serveWaiting();
    this.#applyCredit();
  }

  /** Gives a request whose body is still coming straight to a server; false when none that streams is free. */
  serveStream(direct: Direct): boolean {
    return this.#serveDirectly((server) => server.streams, direct);
  }

  /**
   * Gives a request for another protocol straight to a server that can change to it; when those that can are busy, it
   * waits for one of them. False when there is none.
   */
  serveUpgrade(protocol: string, direct: Direct): boolean {
    if (this.#serveDirectly((server) => server.changesTo(protocol), direct)) return true;
    if (![...this.#posts.keys()].some((server) => server.changesTo(protocol))) return false;
    this.#wait(direct);
    return true;
  }

  #wait(direct: Direct): void {
    this.#waiting.add(direct);
    direct.requestor.onGone = () => this.#waiting.delete(direct);
  }

  #serveDirectly(isFit: (server: Server) => boolean, direct: Direct): boolean {
    if (this.#ended) return false;
    const post = this.#leastBusy(isFit);
    if (post === undefined) return false;
    const { requestor } = direct;
    requestor.attempts += 1;
    requestor.serving = true;
    this.#direct += 1;
    this.#occupy(post);
    this.#applyCredit();
    const settle = (settlement: Settlement): void => {
      requestor.serving = false;
      this.#direct -= 1;
      if (settlement === 'again') this.#wait(direct);
      this.#release(post);
      this.#serveWaiting();
      this.#applyCredit();
      this.#host.onCrewChange(this);
    };
    post.server.serve(new Errand({ ...direct, settle }));
    return true;
  }

  /** Somebody is free: before the queue has its turn. */
  #serveWaiting(): void {
    for (const direct of this.#waiting) {
      const { requestor } = direct;
      const protocol = requestor.passage?.protocol ?? '';
      const isOver = requestor.gone || requestor.answered === true;
      if (isOver || this.#serveDirectly((server) => server.changesTo(protocol), direct)) this.#waiting.delete(direct);
    }
  }

  /** Dismisses the servers and ends the consumer; what is being served goes on and is settled. Idempotent. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#dismissAll();
    this.channel.pause();
    if (this.#consumerTag !== undefined) await this.channel.cancel(this.#consumerTag).catch(ignoreClosed);
    this.#closeWhenIdle();
  }

  /** The broker has ended the connection or the consumer. */
  onBrokerEnd(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#dismissAll();
    this.#host.onCrewEnd(this, reason);
    this.#closeWhenIdle();
  }

  #dismissAll(): void {
    for (const server of [...this.#posts.keys()]) {
      this.leave(server);
      server.dismiss();
    }
  }

  #closeWhenIdle(): void {
    if (this.#ended && this.#held === 0) void this.#connection.close();
  }

  #onDeliver(message: Message, tag: number, redelivered: boolean): void {
    this.#held += 1;
    const requestor = this.#host.requestorOf(message, redelivered, this);
    const post = requestor.gone ? undefined : this.#leastBusy();
    const settle = (settlement: Settlement): void => {
      requestor.serving = false;
      this.#settle(post, tag, settlement);
    };
    if (post === undefined) {
      // Nobody waits for it any more, or the last server has gone in between.
      if (!requestor.gone) requestor.onGivenBack?.();
      settle(requestor.gone ? 'done' : 'again');
      return;
    }
    requestor.attempts += 1;
    requestor.serving = true;
    this.#occupy(post);
    const request = this.#host.requestOf(message);
    const client = message.properties.headers?.['requesting-client'];
    // Whoever publishes a request by himself writes here what he likes; it becomes a field.
    const requestingClient = typeof client === 'string' && /^[!-~]{1,64}$/.test(client) ? client : '';
    const options = { requestor, requestingClient, octets: message.body, settle, ...(request && { request }) };
    post.server.serve(new Errand(options));
  }

  #settle(post: Post | undefined, tag: number, settlement: Settlement): void {
    this.#held -= 1;
    if (post !== undefined) this.#release(post);
    this.#serveWaiting();
    // First: settling gives credit, and only free slots are.
    this.#applyCredit();
    try {
      if (settlement === 'done') this.channel.ack(tag);
      else this.channel.reject(tag, { requeue: true, returned: true });
    } catch (error) {
      ignoreClosed(error);
    }
    this.#host.onCrewChange(this);
    this.#closeWhenIdle();
  }

  // ---- slots

  #leastBusy(wanted?: (server: Server) => boolean): Post | undefined {
    for (const posts of this.#free) {
      for (const post of posts ?? []) if (wanted === undefined || wanted(post.server)) return post;
    }
    return undefined;
  }

  #occupy(post: Post): void {
    this.#takeFree(post);
    post.busy += 1;
    this.#putFree(post);
  }

  #release(post: Post): void {
    this.#takeFree(post);
    post.busy -= 1;
    if (this.#posts.get(post.server) !== post) return;
    this.#putFree(post);
  }

  #putFree(post: Post): void {
    if (post.slots <= post.busy) return;
    this.#freeSlots += post.slots - post.busy;
    for (let index = this.#free.length; index <= post.busy; index += 1) this.#free.push(new Set());
    this.#free[post.busy]?.add(post);
  }

  #takeFree(post: Post): void {
    if (this.#free[post.busy]?.delete(post)) this.#freeSlots -= post.slots - post.busy;
  }

  #applyCredit(): void {
    if (this.#consumerTag === undefined || this.#ended) return;
    const credit = this.#freeSlots === 0 ? 0 : this.#freeSlots + this.#held;
    if (credit === this.#credit) return;
    this.#credit = credit;
    try {
      if (credit === 0) this.channel.pause();
      else {
        this.channel.prefetch(credit, true);
        this.channel.resume();
      }
    } catch (error) {
      ignoreClosed(error);
    }
  }
}

/** After the end of its connection there is nothing to settle; any other failure is a defect. */
function ignoreClosed(error: unknown): void {
  if (error instanceof BrokerError) return;
  throw error;
}
