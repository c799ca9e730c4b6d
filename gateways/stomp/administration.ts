/**
 * The extension `warren.admin`: declaring, deleting, binding, purging and policies by SEND to a reserved destination, for
 * clients that have asked for it in CONNECT. Rights are those of any other peer. docs/protocols/stomp.md describes it for
 * other implementers.
 *
 * ```
 * /warren/declare  kind: queue | exchange | binding     /warren/purge   name
 * /warren/delete   kind: queue | exchange | binding     /warren/policy  name, pattern, definition (JSON); clear:true
 * ```
 */
import type { PolicyScope } from '../../broker/administration/administration.ts';
import type { FieldTable } from '../../broker/fields.ts';
import { type BindingSpec, type Broker, BrokerError, type Channel, type Connection } from '../../broker/port.ts';
import { flag, type Headers, invalidHeader, prefixedArguments, wholeNumber } from './declarations.ts';
import { ReplyError } from './errors.ts';

/** What begins the name of an argument: `arg.x-max-length:i:5`. */
const ARGUMENT_PREFIX = 'arg.';

/** On whom and what a verb acts. */
export interface AdministrationContext {
  readonly broker: Broker;
  readonly connection: Connection;
  readonly channel: Channel;
}

/** What the RECEIPT says besides its id. */
export type Results = { readonly [header: string]: string };

type Verb = (context: AdministrationContext, headers: Headers) => Promise<Results>;

const SCOPES: readonly string[] = ['all', 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges'];

const VERBS: { readonly [verb: string]: Verb } = { declare, delete: remove, purge, policy };

/** Carries out the verb of `/warren/VERB`. Rejects with ReplyError and BrokerError. */
export async function administer(verb: string, context: AdministrationContext, headers: Headers): Promise<Results> {
  const run = Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (run === undefined) {
    const known = Object.keys(VERBS).map((name) => `/warren/${name}`);
    throw new ReplyError('Unknown destination', `there are ${known.join(', ')}`, 404);
  }
  return run(context, headers);
}

async function declare({ channel }: AdministrationContext, headers: Headers): Promise<Results> {
  const args = argumentsOf(headers);
  switch (kindOf(headers)) {
    case 'queue': {
      const declared = await channel.declareQueue({
        queue: headers.get('name') ?? '',
        passive: flag(headers, 'passive', false),
        durable: flag(headers, 'durable', true),
        exclusive: flag(headers, 'exclusive', false),
        autoDelete: flag(headers, 'auto-delete', false),
        arguments: args,
      });
      return {
        queue: declared.queue,
        'message-count': String(declared.messageCount),
        'consumer-count': String(declared.consumerCount),
      };
    }
    case 'exchange':
      await channel.declareExchange({
        exchange: required(headers, 'name'),
        type: headers.get('type') ?? 'direct',
        passive: flag(headers, 'passive', false),
        durable: flag(headers, 'durable', true),
        autoDelete: flag(headers, 'auto-delete', false),
        internal: flag(headers, 'internal', false),
        arguments: args,
      });
      return { exchange: required(headers, 'name') };
    case 'binding':
      await channel.bind(bindingOf(headers, args));
      return {};
  }
}

async function remove({ channel }: AdministrationContext, headers: Headers): Promise<Results> {
  const ifUnused = flag(headers, 'if-unused', false);
  switch (kindOf(headers)) {
    case 'queue': {
      const ifEmpty = flag(headers, 'if-empty', false);
      const messageCount = await channel.deleteQueue(required(headers, 'name'), { ifUnused, ifEmpty });
      return { 'message-count': String(messageCount) };
    }
    case 'exchange':
      await channel.deleteExchange(required(headers, 'name'), { ifUnused });
      return {};
    case 'binding':
      await channel.unbind(bindingOf(headers, argumentsOf(headers)));
      return {};
  }
}

async function purge({ channel }: AdministrationContext, headers: Headers): Promise<Results> {
  return { 'message-count': String(await channel.purgeQueue(required(headers, 'name'))) };
}

async function policy({ broker, connection }: AdministrationContext, headers: Headers): Promise<Results> {
  const { vhost, principal } = connection;
  if (!principal.tags.includes('administrator') && !principal.tags.includes('policymaker')) {
    throw new BrokerError('access-refused', 'policies are for users tagged administrator or policymaker');
  }
  const name = required(headers, 'name');
  if (flag(headers, 'clear', false)) {
    await broker.administration.clearPolicy(vhost, name);
    return {};
  }
  const applyTo = headers.get('apply-to') ?? 'all';
  if (!SCOPES.includes(applyTo)) throw invalidHeader('apply-to', applyTo, `one of ${SCOPES.join(', ')}`);
  await broker.administration.setPolicy({
    vhost,
    name,
    pattern: required(headers, 'pattern'),
    applyTo: applyTo as PolicyScope,
    priority: wholeNumber('priority', headers.get('priority') ?? '0'),
    definition: { ...definitionOf(headers), ...argumentsOf(headers) },
  });
  return {};
}

/** `definition` is a JSON object of the policy's keys; `arg.KEY` adds single ones. */
function definitionOf(headers: Headers): FieldTable {
  const text = headers.get('definition');
  if (text === undefined) return {};
  try {
    const definition: unknown = JSON.parse(text);
    if (typeof definition === 'object' && definition !== null && !Array.isArray(definition)) {
      return definition as FieldTable;
    }
  } catch {
    // Said below, for what is no object too.
  }
  throw invalidHeader('definition', text, 'a JSON object');
}

function argumentsOf(headers: Headers): FieldTable {
  return prefixedArguments(headers, ARGUMENT_PREFIX);
}

function kindOf(headers: Headers): 'queue' | 'exchange' | 'binding' {
  const kind = required(headers, 'kind');
  if (kind === 'queue' || kind === 'exchange' || kind === 'binding') return kind;
  throw invalidHeader('kind', kind, 'queue, exchange or binding');
}

function bindingOf(headers: Headers, args: FieldTable): BindingSpec {
  const destinationKind = headers.get('target-kind') ?? 'queue';
  if (destinationKind !== 'queue' && destinationKind !== 'exchange') {
    throw invalidHeader('target-kind', destinationKind, 'queue or exchange');
  }
  return {
    source: required(headers, 'source'),
    destination: required(headers, 'target'),
    destinationKind,
    bindingKey: headers.get('routing-key') ?? '',
    arguments: args,
  };
}

function required(headers: Headers, name: string): string {
  const value = headers.get(name);
  if (value === undefined || value === '') throw new ReplyError('Missing Header', `the header '${name}' must be there`);
  return value;
}
