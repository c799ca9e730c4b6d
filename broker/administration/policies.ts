/**
 * Policies: settings laid on queues and exchanges by their names. On each, at most one user policy and one operator
 * policy apply: of those whose pattern and scope fit, the one with the highest priority; of several with the same
 * priority, where RabbitMQ leaves it open, the one whose name comes first. [RabbitMQ: policies]
 */

import { Pattern, PatternError } from '../access/pattern.ts';
import { DefinitionLog } from '../definition-log.ts';
import { Directory } from '../directory.ts';
import { EMPTY_TABLE, type FieldTable } from '../fields.ts';
import { BrokerError } from '../port.ts';
import type { Policy, PolicyScope } from './administration.ts';
import {
  checkPolicyDefinition,
  fitsQueueType,
  mergeDefinitions,
  type PolicyKind,
  validationError,
} from './policy-settings.ts';

/** What applies to one queue or exchange. */
export interface EffectivePolicy {
  /** Name of the user policy. */
  readonly policy?: string;
  readonly operatorPolicy?: string;
  /** Both merged; keys are argument names without `x-`. Integers may be number or bigint. */
  readonly definition: FieldTable;
}

const NO_POLICY: EffectivePolicy = Object.freeze({ definition: EMPTY_TABLE });

const SCOPES: readonly PolicyScope[] = ['queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges', 'all'];
const SCOPE_OF_TYPE: { readonly [queueType: string]: PolicyScope } = {
  classic: 'classic_queues',
  quorum: 'quorum_queues',
  stream: 'streams',
};

interface Compiled {
  readonly policy: Policy;
  readonly pattern: Pattern;
}

/** The user and operator policies of one broker. */
export class Policies {
  readonly #policies: {
    readonly user: Directory<'policy', Compiled>;
    readonly operator: Directory<'operator-policy', Compiled>;
  };
  /** By virtual host, the winner first; made when they are asked for. */
  readonly #ranked: { readonly [kind in PolicyKind]: Map<string, readonly Compiled[]> } = {
    user: new Map(),
    operator: new Map(),
  };

  constructor(log = new DefinitionLog()) {
    this.#policies = {
      user: new Directory(log, 'policy', ({ policy }) => policy),
      operator: new Directory(log, 'operator-policy', ({ policy }) => policy),
    };
  }

  /** Replaces the one of the same kind, virtual host and name. Throws precondition-failed; see `checkPolicy`. */
  set(kind: PolicyKind, policy: Policy): void {
    const pattern = checkPolicy(kind, policy);
    this.#policies[kind].set({ policy, pattern });
    this.#ranked[kind].delete(policy.vhost);
  }

  /** Throws not-found. */
  clear(kind: PolicyKind, vhost: string, name: string): void {
    this.#ranked[kind].delete(vhost);
    if (this.#policies[kind].delete(vhost, name)) return;
    throw new BrokerError(
      'not-found',
      `no ${kind === 'operator' ? 'operator policy' : 'policy'} '${name}' in vhost '${vhost}'`,
    );
  }

  /** Drops everything about a deleted virtual host. */
  forgetVhost(vhost: string): void {
    for (const kind of ['user', 'operator'] as const) {
      this.#policies[kind].deleteWhere(({ policy }) => policy.vhost === vhost);
      this.#ranked[kind].delete(vhost);
    }
  }

  /** In the order of creation. */
  list(kind: PolicyKind): readonly Policy[] {
    return this.#policies[kind].list().map(({ policy }) => policy);
  }

  /** `queueType` (`classic`, `quorum`, `stream`) matters for a queue only. */
  effective(vhost: string, kind: 'queue' | 'exchange', name: string, queueType = 'classic'): EffectivePolicy {
    const applies = ({ policy, pattern }: Compiled): boolean =>
      (kind === 'exchange'
        ? policy.applyTo === 'exchanges' || policy.applyTo === 'all'
        : fitsQueue(policy, queueType)) && pattern.matches(name);
    const user = this.#of('user', vhost).find(applies)?.policy;
    const operator = this.#of('operator', vhost).find(applies)?.policy;
    if (user === undefined && operator === undefined) return NO_POLICY;
    return {
      ...(user === undefined ? {} : { policy: user.name }),
      ...(operator === undefined ? {} : { operatorPolicy: operator.name }),
      definition: mergeDefinitions(user?.definition ?? EMPTY_TABLE, operator?.definition ?? EMPTY_TABLE),
    };
  }

  #of(kind: PolicyKind, vhost: string): readonly Compiled[] {
    const known = this.#ranked[kind].get(vhost);
    if (known !== undefined) return known;
    const ranked = this.#policies[kind]
      .list()
      .filter(({ policy }) => policy.vhost === vhost)
      .sort(byPriority);
    this.#ranked[kind].set(vhost, ranked);
    return ranked;
  }
}

/** Throws precondition-failed, in RabbitMQ's words, for a policy that cannot be; answers its compiled pattern. */
export function checkPolicy(kind: PolicyKind, policy: Policy): Pattern {
  const { name, applyTo, priority, definition } = policy;
  if (name === '') throw validationError('name of a policy must not be empty');
  if (!SCOPES.includes(applyTo)) {
    const scopes = SCOPES.map((scope) => `'${scope}'`).join(', ');
    throw validationError(`apply-to '${applyTo}' unrecognised; should be one of: ${scopes}`);
  }
  if (!Number.isFinite(priority)) throw validationError(`priority should be a number, actually was ${priority}`);
  checkPolicyDefinition(definition, kind);
  try {
    return new Pattern(policy.pattern);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw validationError(
      `pattern should be regular expression but is invalid: ${error.message} (at ${error.position})`,
    );
  }
}

function fitsQueue({ applyTo, definition }: Policy, queueType: string): boolean {
  const inScope = applyTo === 'all' || applyTo === 'queues' || applyTo === SCOPE_OF_TYPE[queueType];
  return inScope && fitsQueueType(definition, queueType);
}

function byPriority(a: Compiled, b: Compiled): number {
  return b.policy.priority - a.policy.priority || (a.policy.name < b.policy.name ? -1 : 1);
}
