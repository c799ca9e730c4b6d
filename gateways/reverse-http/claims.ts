/**
 * The claims of one door: making them, joining them, ending them. A claim makes the queue `rhttp.NAME` under its maker's
 * rights (configure on it to claim, read to serve) and the door binds it to `amq.rhttp`. It ends when its maker says so or
 * when nobody has served it for its lease.
 */
import { randomUUID } from 'node:crypto';
import type { Message } from '../../broker/message.ts';
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import type { Ask } from './ask.ts';
import type { Capabilities } from './capabilities.ts';
import { Claim, queueOf, RHTTP_EXCHANGE } from './claim.ts';
import { Crew, type CrewHost } from './crew.ts';
import { DoorSession, isBrokerError } from './door-session.ts';
import type { ErrandRequest } from './errand.ts';
import { HttpError } from './http-error.ts';
import type { ResolvedOptions } from './options.ts';
import { Picture } from './picture.ts';
import { MessageRequestor, nobody, type Requestor } from './requestor.ts';
import type { Resource } from './resource.ts';

export interface ClaimRequest {
  readonly name: string;
  readonly principal: Principal;
  /** Absent: a fresh one that nobody knows. */
  readonly secret?: string;
  readonly leaseMs: number;
}

export class Claims implements CrewHost {
  readonly door: DoorSession;
  readonly picture: Picture;
  /** Requests for public URLs that wait for an answer, by id. */
  readonly asks = new Map<string, Ask>();
  /** Ids of requests whose clients have gone while their messages may still be in a queue. */
  readonly withdrawn = new Set<string>();
  readonly #broker: Broker;
  readonly #options: ResolvedOptions;
  readonly #capabilities: Capabilities<Resource>;
  readonly #claims = new Map<string, Claim>();
  /** Names whose claims are being made or ended; who wants to claim one waits. */
  readonly #changing = new Map<string, Promise<void>>();
  /** Of claims that are being made, their makers. */
  readonly #makers: string[] = [];
  /** Whoever published a request by himself, to count its tries while the broker keeps the message in memory. */
  readonly #requestors = new WeakMap<Message, Requestor>();
  #crewCount = 0;

  constructor(broker: Broker, options: ResolvedOptions, capabilities: Capabilities<Resource>) {
    this.#broker = broker;
    this.#options = options;
    this.#capabilities = capabilities;
    this.door = new DoorSession(broker);
    this.picture = new Picture(broker, this.door);
  }

  get(name: string): Claim | undefined {
    return this.#claims.get(name);
  }

  list(): readonly Claim[] {
    return [...this.#claims.values()];
  }

  /**
   * Makes a claim, or refreshes the one there is, whose secret must be `secret`. `resource` is what its private URL is.
   * Rejects with HttpError and BrokerError.
   */
  async claim(request: ClaimRequest, resource: (claim: Claim) => Resource): Promise<{ claim: Claim; isNew: boolean }> {
    const { name, principal, secret, leaseMs } = request;
    await this.#settled(name);
    const existing = this.#claims.get(name);
    if (existing !== undefined) {
      if (secret === undefined || !existing.isSecret(secret)) {
        throw new HttpError(403, `${name} is claimed already, with another token`);
      }
      await this.crewOf(existing, principal);
      existing.leaseMs = leaseMs;
      this.refresh(existing);
      return { claim: existing, isNew: false };
    }
    return { claim: await this.#alone(name, this.#make(request, resource)), isNew: true };
  }

  /** Waits until no claim with this name is being made or ended. */
  async #settled(name: string): Promise<void> {
    for (let change = this.#changing.get(name); change !== undefined; change = this.#changing.get(name)) await change;
  }

  /** Nobody else makes or ends a claim with this name until `change` is over. */
  async #alone<Result>(name: string, change: Promise<Result>): Promise<Result> {
    const over = change.then(
      () => {},
      () => {},
    );
    this.#changing.set(name, over);
    await over;
    if (this.#changing.get(name) === over) this.#changing.delete(name);
    return change;
  }

  /**
   * The claim with this name for somebody who comes to serve it: made if there is none. One that is there may be joined
   * by its maker and by whoever knows its secret. Rejects with HttpError and BrokerError.
   */
  async join(
    name: string,
    principal: Principal,
    secret: string | undefined,
    resource: (claim: Claim) => Resource,
  ): Promise<Crew> {
    await this.#settled(name);
    let claim = this.#claims.get(name);
    if (claim === undefined) {
      const leaseMs = this.#options.leaseSecondsDefault * 1000;
      ({ claim } = await this.claim({ name, principal, leaseMs, ...(secret !== undefined && { secret }) }, resource));
    } else if (claim.owner !== principal.username && !(secret !== undefined && claim.isSecret(secret))) {
      throw new HttpError(403, `${name} is claimed by somebody else`);
    }
    return this.crewOf(claim, principal);
  }

  async #make(request: ClaimRequest, resource: (claim: Claim) => Resource): Promise<Claim> {
    const { name, principal, secret = randomUUID(), leaseMs } = request;
    this.#checkRoom(principal.username);
    this.#makers.push(principal.username);
    const ownsQueue = await this.#declare(name, principal).finally(() => {
      this.#makers.splice(this.#makers.indexOf(principal.username), 1);
    });
    let claim: Claim | undefined;
    const privateToken = this.#capabilities.mint({
      onRequest: (...args) => (claim === undefined ? undefined : resource(claim).onRequest(...args)),
    });
    claim = new Claim({ name, owner: principal.username, secret, leaseMs, ownsQueue, privateToken });
    this.#claims.set(name, claim);
    try {
      await this.crewOf(claim, principal);
    } catch (error) {
      await this.end(claim);
      throw error;
    }
    this.#touch(claim);
    this.#options.log.debug({ claim: name, user: principal.username }, 'claimed');
    return claim;
  }

  /** Throws HttpError: 503 when there are as many claims as allowed, 429 when this user has as many. */
  #checkRoom(username: string): void {
    const { claimsMax, userClaimsMax } = this.#options;
    const owners = [...this.#makers, ...Array.from(this.#claims.values(), ({ owner }) => owner)];
    if (owners.length >= claimsMax) {
      throw new HttpError(503, `there are ${claimsMax} claims already; see --reverse-http-claims-max`);
    }
    if (owners.filter((owner) => owner === username).length >= userClaimsMax) {
      throw new HttpError(429, `this user has ${userClaimsMax} claims already; see --reverse-http-user-claims-max`);
    }
  }

  /** The queue, under the rights of the claim's maker, and its binding. True if the queue is the claim's own. */
  async #declare(name: string, principal: Principal): Promise<boolean> {
    const queue = queueOf(name);
    const connection = await this.#broker.connect(principal, undefined, {}, this.#peer(name, principal));
    let ownsQueue = true;
    try {
      const channel = connection.openChannel();
      const isThere = await channel.declareQueue({ queue, passive: true }).then(
        () => true,
        (error: unknown) => {
          if (isBrokerError(error, 'not-found')) return false;
          throw error;
        },
      );
      ownsQueue = !isThere;
      await channel.declareQueue({ queue }).catch((error: unknown) => {
        // Somebody made it in another way, over AMQP say. Whether this user may configure it has been asked before that.
        if (!isBrokerError(error, 'precondition-failed')) throw error;
      });
    } finally {
      await connection.close();
    }
    const door = await this.door.channel();
    await door.bind({ source: RHTTP_EXCHANGE, destination: queue, destinationKind: 'queue', bindingKey: name });
    return ownsQueue;
  }

  #peer(name: string, principal: Principal): { protocol: string; name: string } {
    this.#crewCount += 1;
    return { protocol: 'HTTP', name: `claim ${name} of ${principal.username} #${this.#crewCount}` };
  }

  /** The crew of this user, made at its first server. Rejects with BrokerError: access-refused without the right read. */
  async crewOf(claim: Claim, principal: Principal): Promise<Crew> {
    const { username } = principal;
    const existing = claim.crews.get(username);
    if (existing !== undefined) return existing;
    let crew: Crew | undefined;
    const events = { onClose: (error: BrokerError) => crew?.onBrokerEnd(error.message) };
    const connection = await this.#broker.connect(principal, undefined, events, this.#peer(claim.name, principal));
    try {
      crew = new Crew(claim.name, connection, this);
      await crew.start(queueOf(claim.name));
    } catch (error) {
      await connection.close();
      throw error;
    }
    const sameTime = claim.crews.get(username);
    if (sameTime !== undefined || claim.ended) {
      await connection.close();
      if (sameTime === undefined) throw new HttpError(410, 'the claim has ended');
      return sameTime;
    }
    claim.crews.set(username, crew);
    return crew;
  }

  /** Ends a claim: its servers are dismissed, what waits for them fails, and the queue goes unless others use it. */
  async end(claim: Claim): Promise<void> {
    if (claim.ended) return;
    claim.ended = true;
    await this.#alone(claim.name, this.#end(claim));
  }

  async #end(claim: Claim): Promise<void> {
    clearTimeout(claim.leaseTimer);
    this.#claims.delete(claim.name);
    this.#capabilities.revoke(claim.privateToken);
    for (const token of claim.tokens) this.#capabilities.revoke(token);
    const crews = [...claim.crews.values()];
    claim.crews.clear();
    await Promise.all(crews.map((crew) => crew.end()));
    await this.#dropQueue(claim);
    if (await this.isServed(claim.name)) return;
    for (const ask of this.asks.values()) {
      if (ask.name === claim.name && !ask.serving) ask.fail(404, 'nobody serves this any more');
    }
  }

  async #dropQueue({ name, ownsQueue }: Claim): Promise<void> {
    if (!ownsQueue) return;
    const door = await this.door.channel();
    await door.deleteQueue(queueOf(name), { ifUnused: true }).catch((error: unknown) => {
      if (!(error instanceof BrokerError)) throw error;
    });
  }

  /** Is there somebody who serves this name: a server here, even a busy one, or a consumer that came by another door? */
  async isServed(name: string): Promise<boolean> {
    const claim = this.#claims.get(name);
    if (claim !== undefined && claim.serverCount + claim.busy > 0) return true;
    try {
      const door = await this.door.channel();
      const { consumerCount } = await door.declareQueue({ queue: queueOf(name), passive: true });
      if (consumerCount > (claim?.crews.size ?? 0)) return true;
    } catch (error) {
      if (!isBrokerError(error, 'not-found')) throw error;
    }
    return this.#isServedElsewhere(name);
  }

  /** By a queue that somebody has bound himself. */
  async #isServedElsewhere(name: string): Promise<boolean> {
    const { bindings, queues } = await this.picture.look();
    const bound = new Set(
      bindings
        .filter(({ source, bindingKey }) => source === RHTTP_EXCHANGE && bindingKey === name)
        .map(({ destination }) => destination),
    );
    bound.delete(queueOf(name));
    return bound.size > 0 && queues.some((queue) => bound.has(queue.name) && queue.consumers.length > 0);
  }

  /** Drops what has been withdrawn from the front of a queue that nobody serves. */
  async sweep(name: string): Promise<void> {
    try {
      const door = await this.door.channel();
      for (;;) {
        const got = await door.get(queueOf(name));
        if (got === undefined) return;
        const { correlationId = '' } = got.message.properties;
        if (!this.withdrawn.delete(correlationId)) {
          door.reject(got.deliveryTag, { requeue: true, returned: true });
          return;
        }
        door.ack(got.deliveryTag);
      }
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
    }
  }

  /** Ends everything, for the shutdown of the door. */
  async close(): Promise<void> {
    await Promise.all(this.list().map((claim) => this.end(claim).catch(() => {})));
    await this.door.close();
  }

  // ---- what crews ask

  requestorOf(message: Message, redelivered: boolean, crew: Crew): Requestor {
    const ask = this.#askOf(message);
    if (ask !== undefined) return ask;
    const { correlationId } = message.properties;
    if (correlationId !== undefined && this.withdrawn.delete(correlationId)) return nobody();
    const channels = { door: this.#doorChannelOr(crew), server: crew.channel };
    const before = this.#requestors.get(message);
    const requestor = new MessageRequestor(message, before?.attempts ?? (redelivered ? 1 : 0), channels, this.#options);
    this.#requestors.set(message, requestor);
    return requestor;
  }

  requestOf(message: Message): ErrandRequest | undefined {
    return this.#askOf(message)?.request;
  }

  /** Ids are random, so that nobody can have his own message taken for somebody else's request. */
  #askOf({ properties: { correlationId }, routingKey }: Message): Ask | undefined {
    const ask = correlationId === undefined ? undefined : this.asks.get(correlationId);
    return ask?.name === routingKey ? ask : undefined;
  }

  #doorChannelOr(crew: Crew): Crew['channel'] {
    return this.door.opened ?? crew.channel;
  }

  onCrewChange(crew: Crew): void {
    const claim = this.#claimOf(crew);
    if (claim !== undefined) this.#touch(claim);
  }

  onCrewEnd(crew: Crew, reason: string): void {
    const claim = this.#claimOf(crew);
    if (claim === undefined) return;
    claim.crews.delete(crew.principal.username);
    this.#options.log.debug({ claim: claim.name, user: crew.principal.username }, `servers dismissed: ${reason}`);
    if (claim.crews.size === 0) this.end(claim).catch(() => {});
  }

  #claimOf(crew: Crew): Claim | undefined {
    const claim = this.#claims.get(crew.name);
    return claim?.crews.get(crew.principal.username) === crew ? claim : undefined;
  }

  // ---- leases

  /** The lease counts anew. */
  refresh(claim: Claim): void {
    clearTimeout(claim.leaseTimer);
    claim.leaseTimer = undefined;
    this.#touch(claim);
  }

  /** Somebody has come, gone or refreshed: the lease counts from now on, if nobody is there. */
  #touch(claim: Claim): void {
    claim.idleSince = performance.now();
    if (claim.leaseTimer === undefined && !claim.ended) this.#armLease(claim, claim.leaseMs);
  }

  #armLease(claim: Claim, milliseconds: number): void {
    claim.leaseTimer = setTimeout(() => {
      claim.leaseTimer = undefined;
      if (claim.ended) return;
      const leftMs = claim.leaseMs - (performance.now() - claim.idleSince);
      // The departure of the last one arms the timer again.
      if (claim.serverCount + claim.busy > 0) return;
      if (leftMs > 0) this.#armLease(claim, leftMs);
      else this.end(claim).catch(() => {});
    }, milliseconds).unref();
  }
}
