/** The phases of a create after its machine answers: from here on the machine stays, whatever happens. */
export const PROJECT_PHASES: readonly string[] = ['clone', 'setup', 'start of the project']
