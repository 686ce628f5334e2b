using 'main.bicep'

// azd keeps these in its environment (azd env set NAME VALUE); without azd, set
// them in the shell. What is not here has the default that main.bicep names.

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')

// The client id of the app registration.
param clientId = readEnvironmentVariable('PORTCULLIS_CLIENT_ID')

// The subscriptions whose machines are looked after, separated by commas.
param managedSubscriptions = split(readEnvironmentVariable('PORTCULLIS_SUBSCRIPTIONS'), ',')

// Instead of whole subscriptions, or besides them:
// param managedSubscriptions = []
// param managedResourceGroups = [
//   {
//     subscriptionId: '00000000-0000-0000-0000-000000000000'
//     name: 'prod'
//   }
// ]

// Who is told of alarms.
// param alarmEmails = [
//   'security@example.com'
// ]

// Systems that may post on the queue: the object ids of their identities.
// param requestSenders = [
//   {
//     principalId: '00000000-0000-0000-0000-000000000000'
//     principalType: 'ServicePrincipal'
//   }
// ]
