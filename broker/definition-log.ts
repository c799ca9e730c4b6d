/**
 * What exists by declaration, as it is written down: the one place through which the store hears of definitions. The
 * directories (users, permissions, policies, parameters), the engine and the virtual hosts write here when something is
 * made, changed or ended; at the start `replay` hands them what an earlier process has written.
 *
 * Names of kinds, keys and the shape of the values are part of the format of a data folder: a change of any of them needs
 * a step that upgrades older folders.
 */
import type { Permission, Policy, TopicPermission, UserView, VhostSpec } from './administration/administration.ts';
import type { In } from './administration/definitions.ts';
import type { GlobalParameter, Parameter } from './administration/parameters.ts';
import { Decimal, EMPTY_TABLE } from './fields.ts';
import { memoryStore } from './memory-store.ts';
import { type BindingSpec, BrokerError, type ExchangeDeclaration, type QueueDeclaration } from './port.ts';
import { bindingId } from './routing/exchange.ts';
import { DEFINITION_KINDS, type Definition, type DefinitionKind, type Store } from './store.ts';

/** `holder`: the id of what holds its messages, of an exchange that delays. */
export type ExchangeDefinition = In<ExchangeDeclaration> & { readonly holder?: number };

export type QueueDefinition = In<QueueDeclaration> & { readonly holder: number };

export type BindingDefinition = In<BindingSpec>;

/** What is written down of each kind. */
export interface DefinitionValues {
  readonly vhost: VhostSpec;
  readonly user: UserView;
  readonly permission: Permission;
  readonly 'topic-permission': TopicPermission;
  readonly policy: Policy;
  readonly 'operator-policy': Policy;
  readonly parameter: Parameter;
  readonly 'global-parameter': GlobalParameter;
  readonly exchange: ExchangeDefinition;
  readonly queue: QueueDefinition;
  readonly binding: BindingDefinition;
}

interface Named {
  readonly name: string;
}

interface InVhost {
  readonly vhost: string;
}

/** As much of each kind as tells which one it is. */
export interface DefinitionNames {
  readonly vhost: Named;
  readonly user: Named;
  readonly permission: InVhost & { readonly user: string };
  readonly 'topic-permission': InVhost & { readonly user: string; readonly exchange: string };
  readonly policy: InVhost & Named;
  readonly 'operator-policy': InVhost & Named;
  readonly parameter: InVhost & Named & { readonly component: string };
  readonly 'global-parameter': Named;
  readonly exchange: InVhost & { readonly exchange: string };
  readonly queue: InVhost & { readonly queue: string };
  readonly binding: BindingDefinition;
}

type Key = readonly string[];

const KEYS: { readonly [kind in DefinitionKind]: (names: DefinitionNames[kind]) => Key } = {
  vhost: ({ name }) => [name],
  user: ({ name }) => [name],
  permission: ({ vhost, user }) => [vhost, user],
  'topic-permission': ({ vhost, user, exchange }) => [vhost, user, exchange],
  policy: ({ vhost, name }) => [vhost, name],
  'operator-policy': ({ vhost, name }) => [vhost, name],
  parameter: ({ vhost, component, name }) => [vhost, component, name],
  'global-parameter': ({ name }) => [name],
  exchange: ({ vhost, exchange }) => [vhost, exchange],
  queue: ({ vhost, queue }) => [vhost, queue],
  binding: ({ vhost, source, destinationKind, destination, bindingKey, arguments: args = EMPTY_TABLE }) => [
    vhost,
    source,
    bindingId(destinationKind, destination, bindingKey, args),
  ],
};

/** What tells one from all others of its kind; the virtual host first, where it is in one. */
export function definitionKey<Kind extends DefinitionKind>(kind: Kind, names: DefinitionNames[Kind]): Key {
  return KEYS[kind](names);
}

/**
 * Tables and arrays within each other in a definition: more than field tables and definitions documents may have, less
 * than a data folder takes.
 */
export const DEFINITION_DEPTH_MAX = 128;

/** The key in UTF-8, which has no octets for half a surrogate pair: a program or a JSON document may have one in a name. */
function storedKey<Kind extends DefinitionKind>(kind: Kind, names: DefinitionNames[Kind]): Key {
  return definitionKey(kind, names).map((name) =>
    /\p{Surrogate}/u.test(name) ? `\u0000${JSON.stringify(name)}` : name,
  );
}

/** Kinds whose key does not begin with a virtual host. */
const GLOBAL_KINDS: readonly DefinitionKind[] = ['vhost', 'user', 'global-parameter'];

/** Makes again what a definition says, from what has been written down. Throws when that cannot be. */
export type Restorers = { readonly [kind in DefinitionKind]: (value: DefinitionValues[kind]) => void };

/** A definition in the data folder cannot be made again: a rule has become stricter, or the folder is damaged. */
export class RestoreError extends Error {
  constructor(definition: Definition, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(
      `cannot restore the ${definitionText(definition)} from the data folder: ${reason}. Nothing has been changed there: ` +
        'start the release of Warren that wrote it, delete this there, and try again',
      { cause },
    );
    this.name = 'RestoreError';
  }
}

export class DefinitionLog {
  readonly #store: Store;
  #replaying = false;

  /** Without a store nothing is kept. */
  constructor(store: Store = memoryStore()) {
    this.#store = store;
  }

  /** Something has been made, or made anew under its name; it keeps its place among its kind. */
  define<Kind extends DefinitionKind>(kind: Kind, value: DefinitionValues[Kind] & DefinitionNames[Kind]): void {
    if (!this.#replaying) this.#store.define(kind, storedKey(kind, value), detached(value));
  }

  /** Something is no more. */
  undefine<Kind extends DefinitionKind>(kind: Kind, names: DefinitionNames[Kind]): void {
    if (!this.#replaying) this.#store.undefine(kind, storedKey(kind, names));
  }

  /**
   * Hands everything that an earlier process has written to `restorers`, in an order in which each finds what it depends
   * on. What they write down in the meantime is known already. Throws RestoreError at the first that cannot be made.
   *
   * With `onLost` the folder has been damaged, and as much as can be is made of what is left: virtual hosts that are
   * missing are made anew, so that nothing in them is lost too, and what still cannot be made is deleted. `onLost` is told
   * of each in words.
   */
  replay(restorers: Restorers, onLost?: (text: string) => void): void {
    this.#replaying = true;
    for (const kind of DEFINITION_KINDS) {
      this.#replayKind(kind, restorers, onLost);
      if (kind === 'vhost' && onLost !== undefined) this.#replaceVhosts(restorers, onLost);
    }
    this.#replaying = false;
  }

  #replayKind<Kind extends DefinitionKind>(
    kind: Kind,
    restorers: Restorers,
    onLost: ((text: string) => void) | undefined,
  ): void {
    const restore: (value: DefinitionValues[Kind]) => void = restorers[kind];
    for (const definition of this.#store.definitions(kind)) {
      try {
        // Written by `define`, and guarded by checksums since.
        restore(definition.value as DefinitionValues[Kind]);
      } catch (error) {
        if (onLost === undefined) throw new RestoreError(definition, error);
        this.#store.undefine(kind, definition.key);
        const reason = error instanceof Error ? error.message : String(error);
        onLost(`the ${definitionText(definition)} cannot be made again and has been deleted: ${reason}`);
      }
    }
  }

  /** Makes the virtual hosts that something is in and that are not there. */
  #replaceVhosts(restorers: Restorers, onLost: (text: string) => void): void {
    const known = new Set(this.#store.definitions('vhost').map(({ value }) => (value as Named).name));
    for (const kind of DEFINITION_KINDS) {
      if (GLOBAL_KINDS.includes(kind)) continue;
      for (const { value } of this.#store.definitions(kind)) {
        const { vhost: name } = value as InVhost;
        if (known.has(name)) continue;
        known.add(name);
        this.#replaying = false;
        restorers.vhost({ name });
        this.#replaying = true;
        onLost(`the vhost '${name}' is missing and has been made anew, without its description and limits`);
      }
    }
  }
}

/** `queue 'q' in vhost '/'` */
function definitionText({ kind, key }: Definition): string {
  const quoted = key.map((name) => `'${name}'`);
  const words = kind.replace('-', ' ');
  if (GLOBAL_KINDS.includes(kind)) return `${words} ${quoted.join(' ')}`;
  return `${words} ${quoted.slice(1).join(' ')} in vhost ${quoted[0]}`;
}

/**
 * A copy that stays as it is when whoever gave the value changes it later: the store writes it down again and again. What
 * no definition can hold (a function that a program in JavaScript has left in) is left out.
 */
function detached(value: unknown, depth = 0): unknown {
  if (typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (typeof value !== 'object' || value === null || isAtom(value)) return value;
  if (depth > DEFINITION_DEPTH_MAX) {
    throw new BrokerError('precondition-failed', `definitions may be nested ${DEFINITION_DEPTH_MAX} deep`);
  }
  if (Array.isArray(value)) return value.map((item) => detached(item, depth + 1) ?? null);
  const copy: Record<string, unknown> = Object.create(null);
  for (const [name, inner] of Object.entries(value)) copy[name] = detached(inner, depth + 1);
  return copy;
}

/** Values of field tables that are objects and have no parts; nobody changes them. */
function isAtom(value: object): boolean {
  return value instanceof Uint8Array || value instanceof Date || value instanceof Decimal;
}
