// The queues and topics, out of the file that the local stack reads too, and who
// may send and receive on which. Entra alone lets in: there are no keys.

param name string
param location string
param tags object

@allowed(['Standard', 'Premium'])
param sku string
param closed bool
param principalId string
param workspaceId string

@description('Who may post access requests: objects with principalId and principalType.')
param requestSenders array

@description('Give the app Data Owner on what it receives from, so that the platform sees exact queue lengths.')
param exactScaling bool

// any(): what the file leaves out has the service's default.
var entities = any(loadJsonContent('../entities.json'))
var rights = any(loadJsonContent('../rights.json'))
var forever = 'P10675199DT2H48M5.4775807S'
var subscriptionsOfTopics = flatten(map(entities.topics, topic => map(topic.subscriptions, item => {
  topic: topic.name
  subscription: item
})))

var roles = {
  sender: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39')
  receiver: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0')
  owner: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '090c5cfd-751d-490a-894a-3ce6f1109419')
}
var receives = exactScaling ? roles.owner : roles.receiver

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: sku
    tier: sku
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
  }
}

resource queues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [for queue in entities.queues: {
  parent: namespace
  name: queue.name
  properties: {
    lockDuration: queue.?lockDuration ?? 'PT1M'
    maxDeliveryCount: queue.?maxDeliveryCount ?? 10
    defaultMessageTimeToLive: queue.?defaultMessageTimeToLive ?? forever
    deadLetteringOnMessageExpiration: queue.?deadLetteringOnMessageExpiration ?? false
    requiresSession: queue.?requiresSession ?? false
    requiresDuplicateDetection: queue.?requiresDuplicateDetection ?? false
    duplicateDetectionHistoryTimeWindow: queue.?duplicateDetectionHistoryTimeWindow ?? 'PT10M'
  }
}]

resource topics 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = [for topic in entities.topics: {
  parent: namespace
  name: topic.name
  properties: {
    defaultMessageTimeToLive: topic.?defaultMessageTimeToLive ?? forever
    requiresDuplicateDetection: topic.?requiresDuplicateDetection ?? false
    duplicateDetectionHistoryTimeWindow: topic.?duplicateDetectionHistoryTimeWindow ?? 'PT10M'
  }
}]

resource subscriptions 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = [for item in subscriptionsOfTopics: {
  name: '${namespace.name}/${item.topic}/${item.subscription.name}'
  properties: {
    lockDuration: item.subscription.?lockDuration ?? 'PT1M'
    maxDeliveryCount: item.subscription.?maxDeliveryCount ?? 10
    defaultMessageTimeToLive: item.subscription.?defaultMessageTimeToLive ?? forever
    deadLetteringOnMessageExpiration: item.subscription.?deadLetteringOnMessageExpiration ?? false
    requiresSession: item.subscription.?requiresSession ?? false
  }
  dependsOn: [
    topics
  ]
}]

resource receivedQueues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' existing = [for queue in rights.receive.queues: {
  parent: namespace
  name: queue
}]

resource queueReceivers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (queue, i) in rights.receive.queues: {
  name: guid(receivedQueues[i].id, principalId, receives)
  scope: receivedQueues[i]
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: receives
  }
  dependsOn: [
    queues
  ]
}]

resource receivedSubscriptions 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' existing = [for item in rights.receive.subscriptions: {
  name: '${namespace.name}/${item.topic}/${item.subscription}'
}]

resource subscriptionReceivers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in rights.receive.subscriptions: {
  name: guid(receivedSubscriptions[i].id, principalId, receives)
  scope: receivedSubscriptions[i]
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: receives
  }
  dependsOn: [
    subscriptions
  ]
}]

resource sentQueues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' existing = [for queue in rights.send.queues: {
  parent: namespace
  name: queue
}]

resource queueSenders 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (queue, i) in rights.send.queues: {
  name: guid(sentQueues[i].id, principalId, roles.sender)
  scope: sentQueues[i]
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.sender
  }
  dependsOn: [
    queues
  ]
}]

resource sentTopics 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' existing = [for topic in rights.send.topics: {
  parent: namespace
  name: topic
}]

resource topicSenders 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (topic, i) in rights.send.topics: {
  name: guid(sentTopics[i].id, principalId, roles.sender)
  scope: sentTopics[i]
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.sender
  }
  dependsOn: [
    topics
  ]
}]

resource requests 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' existing = {
  parent: namespace
  name: 'access-requests'
}

resource requesters 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for sender in requestSenders: {
  name: guid(requests.id, sender.principalId, roles.sender)
  scope: requests
  properties: {
    principalId: sender.principalId
    principalType: sender.principalType
    roleDefinitionId: roles.sender
  }
  dependsOn: [
    queues
  ]
}]

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'portcullis'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

output id string = namespace.id
output fullyQualifiedNamespace string = split(replace(namespace.properties.serviceBusEndpoint, 'https://', ''), ':')[0]
