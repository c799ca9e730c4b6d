/** A RabbitMQ on this machine, administered through its command line behind the verbs of `Administration`. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type {
  Administration,
  Definitions,
  Permission,
  Policy,
  TopicPermission,
  UserLimits,
  UserSpec,
  VhostLimits,
  VhostSpec,
} from '../../broker/administration/administration.ts';
import type { Alarm } from '../../broker/port.ts';

const run = promisify(execFile);

/** The part of the administration that both brokers are administered through. */
export type TestAdministration = Pick<
  Administration,
  | 'putUser'
  | 'deleteUser'
  | 'setUserLimits'
  | 'putVhost'
  | 'deleteVhost'
  | 'setVhostLimits'
  | 'setPermission'
  | 'clearPermission'
  | 'setTopicPermission'
  | 'setPolicy'
  | 'clearPolicy'
  | 'setOperatorPolicy'
  | 'clearOperatorPolicy'
  | 'importDefinitions'
  | 'closeConnection'
  | 'setAlarm'
>;

export class RabbitmqctlAdministration implements TestAdministration {
  readonly #command: string;
  readonly #prefix: readonly string[];

  /** `command` is the program and its leading arguments, e.g. `['rabbitmqctl', '-n', 'rabbit@localhost']`. */
  constructor(command: readonly string[]) {
    const [program = 'rabbitmqctl', ...prefix] = command;
    this.#command = program;
    this.#prefix = prefix;
  }

  async putUser({ name, password = '', tags = [] }: UserSpec): Promise<void> {
    await this.#run('add_user', name, password);
    await this.#run('set_user_tags', name, ...tags);
  }

  async deleteUser(name: string): Promise<void> {
    await this.#run('delete_user', name);
  }

  async setUserLimits(name: string, limits: UserLimits): Promise<void> {
    const { maxConnections, maxChannels } = limits;
    await this.#run('set_user_limits', name, json({ 'max-connections': maxConnections, 'max-channels': maxChannels }));
  }

  async putVhost(vhost: VhostSpec): Promise<void> {
    await this.#run('add_vhost', vhost.name);
  }

  async deleteVhost(name: string): Promise<void> {
    await this.#run('delete_vhost', name);
  }

  async setVhostLimits(name: string, limits: VhostLimits): Promise<void> {
    const { maxConnections, maxQueues } = limits;
    const value = json({ 'max-connections': maxConnections, 'max-queues': maxQueues });
    await this.#run('set_vhost_limits', '-p', name, value);
  }

  async setPermission({ vhost, user, configure, write, read }: Permission): Promise<void> {
    await this.#run('set_permissions', '-p', vhost, user, configure, write, read);
  }

  async clearPermission(vhost: string, user: string): Promise<void> {
    await this.#run('clear_permissions', '-p', vhost, user);
  }

  async setTopicPermission({ vhost, user, exchange, write, read }: TopicPermission): Promise<void> {
    await this.#run('set_topic_permissions', '-p', vhost, user, exchange, write, read);
  }

  async setPolicy(policy: Policy): Promise<void> {
    await this.#setPolicy('set_policy', policy);
  }

  async clearPolicy(vhost: string, name: string): Promise<void> {
    await this.#run('clear_policy', '-p', vhost, name);
  }

  async setOperatorPolicy(policy: Policy): Promise<void> {
    await this.#setPolicy('set_operator_policy', policy);
  }

  async clearOperatorPolicy(vhost: string, name: string): Promise<void> {
    await this.#run('clear_operator_policy', '-p', vhost, name);
  }

  async importDefinitions(definitions: Definitions): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'definitions-'));
    try {
      // the command may run as a user of its own
      await chmod(folder, 0o755);
      const file = join(folder, 'definitions.json');
      await writeFile(file, json(definitions));
      await this.#run('import_definitions', file);
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  async closeConnection(name: string, reason: string): Promise<void> {
    const connections = (await this.#run('-q', 'list_connections', 'pid', 'name')).split('\n');
    const [pid] = connections.map((line) => line.split('\t')).find((fields) => fields[1] === name) ?? [];
    if (pid === undefined) throw new Error(`no connection ${name}`);
    await this.#run('close_connection', pid, reason);
  }

  /** Alarms hold for the whole node: point this at a RabbitMQ that nobody else uses. */
  async setAlarm(alarm: Alarm, raised: boolean): Promise<void> {
    if (alarm === 'memory') await this.#run('set_vm_memory_high_watermark', raised ? '0.00000001' : '0.4');
    else await this.#run('set_disk_free_limit', raised ? '1000000000000000' : '50MB');
  }

  async #setPolicy(command: string, policy: Policy): Promise<void> {
    const { vhost, name, pattern, applyTo, priority, definition } = policy;
    const options = ['--apply-to', applyTo, '--priority', String(priority)];
    await this.#run(command, '-p', vhost, ...options, name, pattern, json(definition));
  }

  async #run(...args: string[]): Promise<string> {
    const { stdout } = await run(this.#command, [...this.#prefix, ...args]);
    return stdout;
  }
}

function json(value: object): string {
  return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? Number(inner) : inner));
}
