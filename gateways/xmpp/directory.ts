/**
 * The exchanges and bindings of one virtual host, as names: kept up to date by the broker's events, so that looking up an
 * address costs no question, and so that changes made by other doors are noticed.
 */

import { fieldText } from '../../broker/fields.ts';
import type { BrokerEvent } from '../../broker/observer.ts';
import { type BindingSpec, type Broker, BrokerError } from '../../broker/port.ts';
import { fold } from './jid.ts';
import type { SpelledName } from './local-part.ts';

/** What a directory tells those that follow it; called later than the change, never from inside a call to the broker. */
export interface DirectoryListener {
  onBound(binding: BindingSpec): void;
  onUnbound(binding: BindingSpec): void;
}

export class Directory {
  readonly vhost: string;
  /** Names of exchanges, with their types. */
  readonly #types = new Map<string, string>();
  readonly #byFold = new Map<string, Set<string>>();
  /** Bindings from exchanges to queues, by exchange and by queue. */
  readonly #bySource = new Map<string, Map<string, BindingSpec>>();
  readonly #byQueue = new Map<string, Map<string, BindingSpec>>();
  readonly #listeners = new Set<DirectoryListener>();

  constructor(vhost: string) {
    this.vhost = vhost;
  }

  /**
   * Begins with what is there: nothing, and the answer is false, where there is no such virtual host (yet). The directory
   * takes part in changes only through `onEvent`, which must be called already.
   */
  async load(broker: Broker): Promise<boolean> {
    try {
      const { exchanges, bindings } = await broker.snapshot(this.vhost);
      for (const { name, type } of exchanges) if (name !== '') this.#addExchange(name, type);
      for (const binding of bindings) this.#addBinding(binding);
      return true;
    } catch (error) {
      if (error instanceof BrokerError && error.kind === 'not-found') return false;
      throw error;
    }
  }

  /** The returned function ends it. */
  listen(listener: DirectoryListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onEvent(event: BrokerEvent): void {
    if (!('vhost' in event) || event.vhost !== this.vhost) return;
    switch (event.type) {
      case 'exchange-declared':
        this.#addExchange(event.exchange, event.exchangeType);
        break;
      case 'exchange-deleted':
        this.#removeExchange(event.exchange);
        break;
      case 'bound':
        this.#addBinding(event.binding);
        this.#tell((listener) => listener.onBound(event.binding));
        break;
      case 'unbound':
        this.#removeBinding(event.binding);
        this.#tell((listener) => listener.onUnbound(event.binding));
        break;
      default:
    }
  }

  /** Names of all exchanges but the default one. */
  exchanges(): readonly string[] {
    return [...this.#types.keys()].sort();
  }

  has(exchange: string): boolean {
    return this.#types.has(exchange);
  }

  /** The type of an exchange that is there. */
  typeOf(exchange: string): string | undefined {
    return this.#types.get(exchange);
  }

  /** The exchanges that a name in an address may mean: none, one, or several that differ by case only. */
  meant({ text, exact }: SpelledName): readonly string[] {
    if (exact) return this.#types.has(text) ? [text] : [];
    return [...(this.#byFold.get(fold(text)) ?? [])].sort();
  }

  /** Is there another exchange whose name differs by case only? */
  isAmbiguous(exchange: string): boolean {
    return (this.#byFold.get(fold(exchange))?.size ?? 0) > 1;
  }

  /** Bindings of an exchange to queues. */
  bindingsOf(exchange: string): readonly BindingSpec[] {
    return [...(this.#bySource.get(exchange)?.values() ?? [])];
  }

  /** Bindings of exchanges to a queue. */
  bindingsTo(queue: string): readonly BindingSpec[] {
    return [...(this.#byQueue.get(queue)?.values() ?? [])];
  }

  /** Queues to which something is bound. */
  boundQueues(): readonly string[] {
    return [...this.#byQueue.keys()];
  }

  #tell(call: (listener: DirectoryListener) => void): void {
    setImmediate(() => {
      for (const listener of this.#listeners) call(listener);
    });
  }

  #addExchange(name: string, type: string): void {
    this.#types.set(name, type);
    const folded = fold(name);
    const same = this.#byFold.get(folded);
    if (same === undefined) this.#byFold.set(folded, new Set([name]));
    else same.add(name);
  }

  #removeExchange(name: string): void {
    this.#types.delete(name);
    const folded = fold(name);
    const same = this.#byFold.get(folded);
    same?.delete(name);
    if (same?.size === 0) this.#byFold.delete(folded);
  }

  #addBinding(binding: BindingSpec): void {
    if (binding.destinationKind !== 'queue') return;
    put(this.#bySource, binding.source, binding);
    put(this.#byQueue, binding.destination, binding);
  }

  #removeBinding(binding: BindingSpec): void {
    if (binding.destinationKind !== 'queue') return;
    remove(this.#bySource, binding.source, binding);
    remove(this.#byQueue, binding.destination, binding);
  }
}

function put(map: Map<string, Map<string, BindingSpec>>, key: string, binding: BindingSpec): void {
  const inner = map.get(key) ?? new Map<string, BindingSpec>();
  inner.set(idOf(binding), binding);
  map.set(key, inner);
}

function remove(map: Map<string, Map<string, BindingSpec>>, key: string, binding: BindingSpec): void {
  const inner = map.get(key);
  inner?.delete(idOf(binding));
  if (inner?.size === 0) map.delete(key);
}

function idOf({ source, destination, bindingKey, arguments: args }: BindingSpec): string {
  return JSON.stringify([source, destination, bindingKey, args && fieldText(args)]);
}
