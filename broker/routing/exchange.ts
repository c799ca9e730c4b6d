/**
 * An exchange: something you can follow. Holds the bindings that lead away from it and answers which queues a message
 * is for, through exchange-to-exchange bindings and alternate exchanges, each queue once and each exchange once
 * (cycles end where they began).
 *
 * Answers that depend on the routing key alone are kept and forgotten when any route of the virtual host changes.
 */

import type { EffectivePolicy } from '../administration/policies.ts';
import { EMPTY_TABLE, type FieldTable } from '../fields.ts';
import { DirectMatcher } from '../matchers/direct.ts';
import { FanoutMatcher } from '../matchers/fanout.ts';
import { HeadersMatcher } from '../matchers/headers.ts';
import type { Matcher } from '../matchers/matcher.ts';
import { TopicMatcher } from '../matchers/topic.ts';
import type { Message } from '../message.ts';
import { BrokerError } from '../port.ts';
import type { Queue } from '../queue/queue.ts';
import type { Holder, Store } from '../store.ts';

/** What an exchange needs of the virtual host that it is in. */
export interface ExchangeHost {
  readonly store: Store;
  /** Changes whenever a binding, an exchange or a queue that is bound comes or goes, or a policy changes. */
  readonly routesRevision: number;
  exchangeNamed(name: string): Exchange | undefined;
  queueNamed(name: string): Queue | undefined;
}

/** A following: messages of `source` that match go to `destination`. */
export interface Binding {
  readonly source: Exchange;
  readonly destination: Queue | Exchange;
  readonly destinationKind: 'queue' | 'exchange';
  readonly bindingKey: string;
  readonly arguments: FieldTable;
}

/** How much an exchange keeps, counting each routing key and each queue in its answer; then it begins anew. */
const ROUTES_KEPT_MAX = 32_768;

const NOWHERE: readonly Queue[] = [];

/** The type whose messages may be delayed; its argument `x-delayed-type` names the type that routes them. */
export const DELAYED_TYPE = 'x-delayed-message';

const MATCHERS: { readonly [type: string]: () => Matcher<Binding> } = {
  direct: () => new DirectMatcher(),
  fanout: () => new FanoutMatcher(),
  topic: () => new TopicMatcher(),
  headers: () => new HeadersMatcher(),
};

/** Throws precondition-failed when no exchange can be of this type with these arguments. */
export function checkExchangeType(type: string, args: FieldTable): void {
  if (type === DELAYED_TYPE) {
    const inner = args['x-delayed-type'];
    if (typeof inner === 'string' && Object.hasOwn(MATCHERS, inner)) return;
    throw new BrokerError(
      'precondition-failed',
      `Invalid argument, 'x-delayed-type' must be an existing exchange type: direct, fanout, topic or headers`,
    );
  }
  if (!Object.hasOwn(MATCHERS, type)) throw new BrokerError('precondition-failed', `unknown exchange type '${type}'`);
}

export class Exchange {
  readonly name: string;
  readonly isDefault: boolean;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly internal: boolean;
  readonly arguments: FieldTable;
  /** Under which the store knows the messages that it delays; its definition names it when it is durable. */
  readonly holder: Holder;
  /** Bindings away from this exchange, by `bindingId`. */
  readonly bindings = new Map<string, Binding>();
  /** Bindings of other exchanges to this one. */
  readonly incoming = new Set<Binding>();
  policy: EffectivePolicy;
  /** Messages published to it that no queue wanted. */
  unroutableCount = 0;
  deleted = false;

  readonly #host: ExchangeHost;
  readonly #matcher: Matcher<Binding>;
  #routes = new Map<string, readonly Queue[]>();
  #routesKept = 0;
  #routesRevision = -1;
  #lastKey: string | undefined;
  #lastRoute: readonly Queue[] = NOWHERE;

  /** `type` and `arguments` have been checked. `holder` is that of one which outlived the last process. */
  constructor(
    host: ExchangeHost,
    spec: {
      readonly name: string;
      readonly type: string;
      readonly durable: boolean;
      readonly autoDelete: boolean;
      readonly internal: boolean;
      readonly arguments: FieldTable;
    },
    policy: EffectivePolicy,
    holder: Holder = host.store.holder(),
  ) {
    this.#host = host;
    this.holder = holder;
    this.name = spec.name;
    this.isDefault = spec.name === '';
    this.type = spec.type;
    this.durable = spec.durable;
    this.autoDelete = spec.autoDelete;
    this.internal = spec.internal;
    this.arguments = spec.arguments;
    this.policy = policy;
    this.#matcher = matcherFor(spec.type, spec.arguments);
  }

  /** True when routing keys are dotted words, to which topic permissions apply. */
  get isTopic(): boolean {
    return this.type === 'topic';
  }

  /** Where a message goes that matches no binding; the argument wins over the policy. [RabbitMQ: alternate exchanges] */
  get alternate(): string | undefined {
    const name = this.arguments['alternate-exchange'] ?? this.policy.definition['alternate-exchange'];
    return typeof name === 'string' ? name : undefined;
  }

  /** Throws precondition-failed when the type cannot make sense of the binding. */
  addBinding(id: string, binding: Binding): void {
    this.#matcher.add(binding);
    this.bindings.set(id, binding);
  }

  removeBinding(id: string, binding: Binding): void {
    this.#matcher.remove(binding);
    this.bindings.delete(id);
  }

  /** The queues that a message with this routing key is for, each once, in no promised order. Not to be altered. */
  route(routingKey: string, message: Message): readonly Queue[] {
    // Queues come and go without a change of routes, so this answer is looked up every time.
    if (this.isDefault) return this.#host.queueNamed(routingKey)?.asRoute ?? NOWHERE;
    if (this.#routesRevision !== this.#host.routesRevision) {
      this.#forgetRoutes();
      this.#lastKey = undefined;
      this.#routesRevision = this.#host.routesRevision;
    }
    if (routingKey === this.#lastKey) return this.#lastRoute;
    const known = this.#routes.get(routingKey);
    if (known === undefined) return this.#findRoute(routingKey, message);
    this.#lastKey = routingKey;
    this.#lastRoute = known;
    return known;
  }

  /** The same for a message that has several routing keys: its alternate is asked only when none of them matches. */
  routeAll(routingKeys: readonly string[], message: Message): readonly Queue[] {
    return this.#walk(this.#matchAll(routingKeys, message), routingKeys, message).queues;
  }

  #findRoute(routingKey: string, message: Message): readonly Queue[] {
    const found = this.#match(routingKey, message);
    const { queues, byKey } = this.#leadsFurther(found)
      ? this.#walk(found, [routingKey], message)
      : { queues: distinctQueues(found), byKey: !this.#matcher.usesHeaders };
    if (!byKey) return queues;
    if (this.#routesKept + queues.length >= ROUTES_KEPT_MAX) this.#forgetRoutes();
    this.#routesKept += queues.length + 1;
    this.#routes.set(routingKey, queues);
    this.#lastKey = routingKey;
    this.#lastRoute = queues;
    return queues;
  }

  #forgetRoutes(): void {
    this.#routes.clear();
    this.#routesKept = 0;
  }

  #match(routingKey: string, message: Message): readonly Binding[] {
    const found: Binding[] = [];
    const headers = this.#matcher.usesHeaders ? message.properties.headers : undefined;
    this.#matcher.match(routingKey, headers ?? EMPTY_TABLE, found);
    return found;
  }

  #matchAll(routingKeys: readonly string[], message: Message): readonly Binding[] {
    return routingKeys.flatMap((routingKey) => this.#match(routingKey, message));
  }

  /** Whether other exchanges have a say in where a message goes that matched `found`. */
  #leadsFurther(found: readonly Binding[]): boolean {
    if (found.length === 0) return this.alternate !== undefined;
    return found.some(({ destinationKind }) => destinationKind === 'exchange');
  }

  /** Follows the bindings to other exchanges, and for each exchange where nothing matches its alternate. */
  #walk(
    matched: readonly Binding[],
    routingKeys: readonly string[],
    message: Message,
  ): { queues: readonly Queue[]; byKey: boolean } {
    const queues = new Set<Queue>();
    const visited = new Set<Exchange>([this]);
    let byKey = true;
    for (const exchange of visited) {
      if (exchange.isDefault) {
        byKey = false;
        for (const routingKey of routingKeys) {
          for (const queue of exchange.route(routingKey, message)) queues.add(queue);
        }
        continue;
      }
      if (exchange.#matcher.usesHeaders) byKey = false;
      const found = exchange === this ? matched : exchange.#matchAll(routingKeys, message);
      for (const { destination } of found) {
        if (destination instanceof Exchange) visited.add(destination);
        else queues.add(destination);
      }
      const alternate = found.length === 0 && exchange.alternate;
      const next = typeof alternate === 'string' && this.#host.exchangeNamed(alternate);
      if (next) visited.add(next);
    }
    return { queues: [...queues], byKey };
  }
}

/** Where bindings lead that all lead to queues. */
function distinctQueues(found: readonly Binding[]): readonly Queue[] {
  const queues = found
    .map(({ destination }) => destination)
    .filter((destination): destination is Queue => !(destination instanceof Exchange));
  if (queues.length < 2) return queues[0]?.asRoute ?? NOWHERE;
  return [...new Set(queues)];
}

function matcherFor(type: string, args: FieldTable): Matcher<Binding> {
  const make = MATCHERS[type === DELAYED_TYPE ? String(args['x-delayed-type']) : type];
  if (make === undefined) throw new Error(`broken invariant: exchange type ${type} was checked`);
  return make();
}

/** What makes a binding one and the same: where it leads, its key and its arguments. */
export function bindingId(kind: 'queue' | 'exchange', destination: string, key: string, args: FieldTable): string {
  const names = Object.keys(args).sort();
  const values = names.map((name) => [name, args[name]]);
  return JSON.stringify([kind, destination, key, values], (_name, value: unknown) =>
    typeof value === 'bigint' ? Number(value) : value instanceof Uint8Array ? [...value] : value,
  );
}
