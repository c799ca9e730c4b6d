/**
 * Runtime parameters: what plugins of RabbitMQ are told by definitions (shovels, federation upstreams, …). Nothing
 * here acts on them; they are kept as they came, so that definitions leave as they entered. Those that Warren does act
 * on (limits of virtual hosts, operator policies) are not here but where they belong.
 */

import type { DefinitionLog } from '../definition-log.ts';
import { Directory } from '../directory.ts';

export interface Parameter {
  readonly vhost: string;
  readonly component: string;
  readonly name: string;
  /** Parsed JSON. */
  readonly value: unknown;
}

export interface GlobalParameter {
  readonly name: string;
  /** Parsed JSON. */
  readonly value: unknown;
}

/** The parameters of one broker. */
export class Parameters {
  readonly #parameters: Directory<'parameter', Parameter>;
  readonly #globals: Directory<'global-parameter', GlobalParameter>;

  constructor(log: DefinitionLog) {
    this.#parameters = new Directory(log, 'parameter', (parameter) => parameter);
    this.#globals = new Directory(log, 'global-parameter', (parameter) => parameter);
  }

  /** Replaces the one of the same virtual host, component and name. */
  set(parameter: Parameter): void {
    this.#parameters.set(parameter);
  }

  setGlobal(parameter: GlobalParameter): void {
    this.#globals.set(parameter);
  }

  clearGlobal(name: string): void {
    this.#globals.delete(name);
  }

  list(): readonly Parameter[] {
    return this.#parameters.list();
  }

  listGlobal(): readonly GlobalParameter[] {
    return this.#globals.list();
  }

  /** Drops everything about a deleted virtual host. */
  forgetVhost(vhost: string): void {
    this.#parameters.deleteWhere((parameter) => parameter.vhost === vhost);
  }
}
