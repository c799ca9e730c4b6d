/**
 * Runtime parameters: what plugins of RabbitMQ are told by definitions (shovels, federation upstreams, …). Nothing
 * here acts on them; they are kept as they came, so that definitions leave as they entered. Those that Warren does act
 * on (limits of virtual hosts, operator policies) are not here but where they belong.
 */

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
  readonly #parameters = new Map<string, Parameter>();
  readonly #globals = new Map<string, GlobalParameter>();

  /** Replaces the one of the same virtual host, component and name. */
  set(parameter: Parameter): void {
    const { vhost, component, name } = parameter;
    this.#parameters.set([vhost, component, name].join('\u0000'), parameter);
  }

  setGlobal(parameter: GlobalParameter): void {
    this.#globals.set(parameter.name, parameter);
  }

  list(): readonly Parameter[] {
    return [...this.#parameters.values()];
  }

  listGlobal(): readonly GlobalParameter[] {
    return [...this.#globals.values()];
  }

  /** Drops everything about a deleted virtual host. */
  forgetVhost(vhost: string): void {
    for (const [key, parameter] of this.#parameters) if (parameter.vhost === vhost) this.#parameters.delete(key);
  }
}
