/** A Warren in this process with its AMQP door on a free port. */
import type { Broker } from '../../broker/port.ts';

export interface EmbeddedOptions {
  readonly placeholder?: never;
}

export interface EmbeddedWarren {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly administration: Broker['administration'];
  readonly embedded: Broker;
  close(): Promise<void>;
}

/** Starts both; `close` ends both. */
export async function startEmbedded(_options: EmbeddedOptions = {}): Promise<EmbeddedWarren> {
  throw new Error('Warren does not run yet: set AMQP_TEST_URL');
}
