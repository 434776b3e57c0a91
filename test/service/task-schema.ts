/**
 * What the schema of scheduled tasks allows of what we write: elements, their order where it is fixed, and their values. Out of
 * [MS-TSCH] 2.5 (https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-tsch) and the pages of the complex types in
 * MicrosoftDocs/win32, desktop-src/TaskSchd. Elements that we do not use are named, so that a slip is not taken for one of them.
 */
import type { Element } from '@xmldom/xmldom'

type Type =
  | { values: RegExp }
  | {
      children: Readonly<Record<string, Type>>
      required?: readonly string[]
      ordered?: true
      attributes?: readonly string[]
    }

const text: Type = { values: /^.*$/s }
const nonEmpty: Type = { values: /^.+$/s }
const boolean: Type = { values: /^(?:true|false|0|1)$/ }
/** xs:duration. */
const duration: Type = {
  values: /^P(?=.)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?$/,
}
/** At least a minute and at most 31 days, in the one form that is used. */
const interval: Type = { values: /^PT(?:[1-9]|[1-5]\d)M$/ }
const dateTime: Type = { values: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)?$/ }
const oneOf = (...values: string[]): Type => ({ values: new RegExp(`^(?:${values.join('|')})$`) })
const all = (children: Readonly<Record<string, Type>>, ...required: string[]): Type => ({ children, required })

/** triggerBaseType: a sequence. */
const trigger: Type = {
  ordered: true,
  attributes: ['id'],
  children: {
    Enabled: boolean,
    StartBoundary: dateTime,
    EndBoundary: dateTime,
    Repetition: all({ Interval: interval, Duration: duration, StopAtDurationEnd: boolean }, 'Interval'),
    ExecutionTimeLimit: duration,
    RandomDelay: duration,
  },
}

export const TASK_NAMESPACE = 'http://schemas.microsoft.com/windows/2004/02/mit/task'

export const taskType: Type = {
  required: ['Actions'],
  attributes: ['version', 'xmlns'],
  children: {
    RegistrationInfo: all({
      ...{ URI: text, SecurityDescriptor: text, Source: text, Date: dateTime, Author: text, Version: text },
      ...{ Description: text, Documentation: text },
    }),
    Triggers: all({ TimeTrigger: trigger, BootTrigger: trigger, RegistrationTrigger: trigger, LogonTrigger: trigger }),
    Settings: all({
      ...{ AllowStartOnDemand: boolean, DisallowStartIfOnBatteries: boolean, StopIfGoingOnBatteries: boolean },
      ...{ AllowHardTerminate: boolean, StartWhenAvailable: boolean, NetworkProfileName: text },
      ...{ RunOnlyIfNetworkAvailable: boolean, WakeToRun: boolean, Enabled: boolean, Hidden: boolean },
      RestartOnFailure: all(
        { Interval: interval, Count: { values: /^(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/ } },
        ...['Interval', 'Count'],
      ),
      MultipleInstancesPolicy: oneOf('Parallel', 'Queue', 'IgnoreNew', 'StopExisting'),
      ...{ DeleteExpiredTaskAfter: duration, ExecutionTimeLimit: duration, Priority: { values: /^(?:\d|10)$/ } },
      ...{ RunOnlyIfIdle: boolean, UseUnifiedSchedulingEngine: boolean, DisallowStartOnRemoteAppSession: boolean },
    }),
    Data: text,
    Principals: all(
      {
        Principal: {
          attributes: ['id'],
          children: {
            ...{ UserId: nonEmpty, GroupId: nonEmpty, DisplayName: text },
            LogonType: oneOf('S4U', 'Password', 'InteractiveToken', 'InteractiveTokenOrPassword'),
            RunLevel: oneOf('LeastPrivilege', 'HighestAvailable'),
          },
        },
      },
      'Principal',
    ),
    Actions: {
      attributes: ['Context'],
      required: ['Exec'],
      children: { Exec: all({ Command: nonEmpty, Arguments: text, WorkingDirectory: text }, 'Command') },
    },
  },
}

/** A sentence for each thing that the schema does not allow. */
export const faultsOf = (element: Element, type: Type, at = element.nodeName): string[] => {
  const children = Array.from(element.childNodes).filter((node): node is Element => node.nodeType === 1)
  if ('values' in type) {
    if (children.length > 0) return [`${at} holds elements`]
    return type.values.test(element.textContent ?? '') ? [] : [`${at}: "${element.textContent}"`]
  }
  const known = Object.keys(type.children)
  const names = children.map(({ nodeName }) => nodeName)
  const order = names.map(name => known.indexOf(name))
  const isOrdered = order.every((place, n) => n === 0 || place > (order[n - 1] ?? 0))
  return [
    ...Array.from(element.attributes)
      .filter(({ name }) => !(type.attributes ?? []).includes(name))
      .map(({ name }) => `${at} has the attribute ${name}`),
    ...(type.required ?? []).filter(name => !names.includes(name)).map(name => `${at} lacks ${name}`),
    ...names.filter((name, n) => names.indexOf(name) !== n).map(name => `${at} has ${name} twice`),
    ...(type.ordered && !isOrdered ? [`${at}: ${names.join(', ')} in this order`] : []),
    ...children.flatMap(child => {
      const childType = type.children[child.nodeName]
      return childType === undefined
        ? [`${at} has ${child.nodeName}`]
        : faultsOf(child, childType, `${at}/${child.nodeName}`)
    }),
  ]
}
