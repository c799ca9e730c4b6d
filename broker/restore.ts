/** The start of a broker: everything that the last process has left is made again, or else the first user and virtual host. */
import { prepareUser } from './access/users.ts';
import { type Administered, checkVhost } from './administration/definitions-import.ts';
import type { DefinitionLog, Restorers } from './definition-log.ts';
import type { Engine } from './engine.ts';

/** What a broker consists of. */
export interface BrokerParts extends Administered {
  readonly engine: Engine;
}

/**
 * Definitions first, then the messages. Throws RestoreError, and the store is not to be used any more. With `onLost`, as
 * much as can be is restored of a folder that has been damaged; it is told of the rest in words.
 */
export async function restore(
  log: DefinitionLog,
  parts: BrokerParts,
  onLost: ((text: string) => void) | undefined,
): Promise<void> {
  const { engine, users, permissions, policies, parameters } = parts;
  const restorers: Restorers = {
    vhost: (vhost) => engine.putVhost(vhost),
    user: (user) => users.store(user),
    permission: (permission) => permissions.set(permission),
    'topic-permission': (permission) => permissions.setTopic(permission),
    policy: (policy) => policies.set('user', policy),
    'operator-policy': (policy) => policies.set('operator', policy),
    parameter: (parameter) => parameters.set(parameter),
    'global-parameter': (parameter) => parameters.setGlobal(parameter),
    exchange: (exchange) => engine.requireVhost(exchange.vhost).restoreExchange(exchange),
    queue: (queue) => engine.requireVhost(queue.vhost).restoreQueue(queue),
    binding: ({ vhost, ...binding }) => engine.bind(vhost, binding),
  };
  log.replay(restorers, onLost);
  await engine.restoreMessages();
}

/** Nothing says who may enter, nor where. [RabbitMQ: a database without users, virtual hosts and permissions] */
export function isNew({ engine, users, permissions }: BrokerParts): boolean {
  return engine.vhosts().length === 0 && users.list().length === 0 && permissions.list().length === 0;
}

/** Makes a user who may do everything everywhere, for a broker whose users are all lost. */
export async function makeSpareUser(
  { engine, users, permissions }: BrokerParts,
  { user, password }: { readonly user: string; readonly password: string },
): Promise<void> {
  users.store(await prepareUser({ name: user, password, tags: ['administrator'] }));
  for (const { name: vhost } of engine.vhosts()) {
    permissions.set({ vhost, user, configure: '.*', write: '.*', read: '.*' });
  }
  await engine.synced();
}

/**
 * Makes a user and the virtual host in which he may do everything, both in one turn of the event loop: nobody finds one
 * without the other after a crash. Throws precondition-failed for names that cannot be.
 */
export async function makeDefaults(
  { engine, users, permissions }: BrokerParts,
  names: { readonly vhost: string; readonly user: string; readonly password: string },
): Promise<void> {
  const { user, password } = names;
  const vhost = { name: names.vhost, description: 'Default virtual host' };
  checkVhost(vhost);
  const prepared = await prepareUser({ name: user, password, tags: ['administrator'] });
  engine.putVhost(vhost);
  users.store(prepared);
  permissions.set({ vhost: vhost.name, user, configure: '.*', write: '.*', read: '.*' });
  await engine.synced();
}
