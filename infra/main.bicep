// Portcullis in a subscription: what docs/deploy.md deploys. Each module says why
// it is there.

targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('Names the deployment: its resource group, and by a hash everything in it.')
param environmentName string

@description('The Azure region; one that has Flex Consumption.')
param location string

@minLength(36)
@maxLength(36)
@description('The application (client) id of the app registration: docs/deploy.md says how to make it.')
param clientId string

@description('The tenant whose users are believed.')
param tenantId string = tenant().tenantId

@description('The subscriptions whose machines it looks after, whole. It gets its role on each.')
param managedSubscriptions array

@description('Resource groups that it looks after in other subscriptions: objects with subscriptionId and name. It gets its role on each.')
param managedResourceGroups array = []

@minLength(1)
@maxLength(20)
@description('The name in every rule of this installation, of a-z and 0-9. Two installations on one NSG need two names.')
param installation string = 'default'

@description('More app settings, by name: docs/settings.md.')
param extraSettings object = {}

@description('Who may post on the queue access-requests: objects with principalId and principalType (ServicePrincipal, Group or User).')
param requestSenders array = []

@description('Addresses that get a mail of every alarm.')
param alarmEmails array = []

@description('Allow NSGs whose rules name application security groups to be written.')
param allowApplicationSecurityGroups bool = false

@description('Data Owner instead of Data Receiver on the queues that functions listen to, so that the platform scales by exact lengths.')
param exactScaling bool = false

@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@minValue(0)
@maxValue(20)
@description('Instances that are always there for the page and the API; 0 saves their price and adds a cold start.')
param alwaysReadyInstances int = 1

@allowed(['Standard', 'Premium'])
@description('Premium alone has private endpoints.')
param serviceBusSku string = 'Standard'

@description('How the record is kept; Standard_ZRS where the region has zones.')
param tablesSku string = 'Standard_ZRS'

@minValue(0)
@maxValue(146000)
@description('For how many days the anchors of the audit can be neither changed nor deleted; 0 for no anchors.')
param anchorRetentionInDays int = 400

@minValue(30)
@maxValue(730)
param logRetentionInDays int = 90

@description('Reach the storage accounts, and Service Bus where it is Premium, by private endpoints alone.')
param privateEndpoints bool = false

@description('Reach the page, the API and webhooks by a private endpoint alone. Needs privateEndpoints.')
param privateApp bool = false

@description('Of the network that privateEndpoints makes: at least a /24.')
param addressPrefix string = '10.71.0.0/24'

@description('Tags of every resource.')
param tags object = {}

var token = toLower(uniqueString(subscription().id, environmentName, location))
var groupName = 'rg-${environmentName}'
var allTags = union(tags, {
  'azd-env-name': environmentName
})
var subscriptionIds = union(managedSubscriptions, map(managedResourceGroups, item => item.subscriptionId))
var roleName = guid(subscription().id, environmentName, 'portcullis-nsg')

var closedBus = privateEndpoints && serviceBusSku == 'Premium'
var closedApp = privateEndpoints && privateApp
var networkName = 'vnet-${token}'
var appSubnetId = '${subscription().id}/resourceGroups/${groupName}/providers/Microsoft.Network/virtualNetworks/${networkName}/subnets/app'
var zones = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  namespace: 'privatelink.servicebus.windows.net'
  sites: 'privatelink.azurewebsites.net'
}

resource group 'Microsoft.Resources/resourceGroups@2022-09-01' = {
  name: groupName
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: allTags
  }
}

module telemetry 'modules/telemetry.bicep' = {
  name: 'telemetry'
  scope: group
  params: {
    workspaceName: 'log-${token}'
    insightsName: 'appi-${token}'
    location: location
    tags: allTags
    retentionInDays: logRetentionInDays
    principalId: identity.outputs.principalId
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  name: 'host-storage'
  scope: group
  params: {
    name: 'sthost${token}'
    location: location
    tags: allTags
    sku: 'Standard_LRS'
    closed: privateEndpoints
    principalId: identity.outputs.principalId
  }
}

module tables 'modules/tables.bicep' = {
  name: 'tables'
  scope: group
  params: {
    name: 'strecord${token}'
    location: location
    tags: allTags
    sku: tablesSku
    closed: privateEndpoints
    principalId: identity.outputs.principalId
    workspaceId: telemetry.outputs.workspaceId
  }
}

module anchors 'modules/anchors.bicep' = if (anchorRetentionInDays > 0) {
  name: 'anchors'
  scope: group
  params: {
    name: 'stanchor${token}'
    location: location
    tags: allTags
    sku: tablesSku
    closed: privateEndpoints
    principalId: identity.outputs.principalId
    retentionInDays: anchorRetentionInDays
  }
}

module serviceBus 'modules/service-bus.bicep' = {
  name: 'service-bus'
  scope: group
  params: {
    name: 'sb-${token}'
    location: location
    tags: allTags
    sku: serviceBusSku
    closed: closedBus
    principalId: identity.outputs.principalId
    workspaceId: telemetry.outputs.workspaceId
    requestSenders: requestSenders
    exactScaling: exactScaling
  }
}

module network 'modules/network.bicep' = if (privateEndpoints) {
  name: 'network'
  scope: group
  params: {
    name: networkName
    location: location
    tags: allTags
    addressPrefix: addressPrefix
    zones: [
      zones.blob
      zones.table
      zones.namespace
      zones.sites
    ]
  }
}

module hostEndpoint 'modules/private-endpoint.bicep' = if (privateEndpoints) {
  name: 'host-endpoint'
  scope: group
  params: {
    name: 'pe-host-${token}'
    location: location
    tags: allTags
    networkName: networkName
    targetId: hostStorage.outputs.id
    groupId: 'blob'
    zone: zones.blob
  }
  dependsOn: [
    network
  ]
}

module tablesEndpoint 'modules/private-endpoint.bicep' = if (privateEndpoints) {
  name: 'tables-endpoint'
  scope: group
  params: {
    name: 'pe-record-${token}'
    location: location
    tags: allTags
    networkName: networkName
    targetId: tables.outputs.id
    groupId: 'table'
    zone: zones.table
  }
  dependsOn: [
    network
  ]
}

module anchorsEndpoint 'modules/private-endpoint.bicep' = if (privateEndpoints && anchorRetentionInDays > 0) {
  name: 'anchors-endpoint'
  scope: group
  params: {
    name: 'pe-anchors-${token}'
    location: location
    tags: allTags
    networkName: networkName
    targetId: anchors.outputs.id
    groupId: 'blob'
    zone: zones.blob
  }
  dependsOn: [
    network
  ]
}

module serviceBusEndpoint 'modules/private-endpoint.bicep' = if (closedBus) {
  name: 'service-bus-endpoint'
  scope: group
  params: {
    name: 'pe-bus-${token}'
    location: location
    tags: allTags
    networkName: networkName
    targetId: serviceBus.outputs.id
    groupId: 'namespace'
    zone: zones.namespace
  }
  dependsOn: [
    network
  ]
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    planName: 'plan-${token}'
    appName: 'func-${token}'
    location: location
    tags: allTags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    hostStorageName: hostStorage.outputs.name
    packagesUrl: hostStorage.outputs.packagesUrl
    tablesName: tables.outputs.name
    anchorsUrl: anchorRetentionInDays > 0 ? anchors.outputs.url : ''
    serviceBusNamespace: serviceBus.outputs.fullyQualifiedNamespace
    insightsConnectionString: telemetry.outputs.connectionString
    workspaceId: telemetry.outputs.workspaceId
    subscriptionIds: subscriptionIds
    installation: installation
    tenantId: tenantId
    clientId: clientId
    extraSettings: extraSettings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    subnetId: privateEndpoints ? appSubnetId : ''
    closed: closedApp
  }
  dependsOn: [
    hostEndpoint
    tablesEndpoint
    anchorsEndpoint
    serviceBusEndpoint
  ]
}

module appEndpoint 'modules/private-endpoint.bicep' = if (closedApp) {
  name: 'app-endpoint'
  scope: group
  params: {
    name: 'pe-app-${token}'
    location: location
    tags: allTags
    networkName: networkName
    targetId: app.outputs.id
    groupId: 'sites'
    zone: zones.sites
  }
}

module alarms 'modules/alarms.bicep' = {
  name: 'alarms'
  scope: group
  params: {
    location: location
    tags: allTags
    workspaceId: telemetry.outputs.workspaceId
    serviceBusId: serviceBus.outputs.id
    tablesName: tables.outputs.name
    principalId: identity.outputs.principalId
    emails: alarmEmails
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: allTags
    workspaceId: telemetry.outputs.workspaceId
  }
}

// One role, and its assignment at each scope that was named.
module nsgRole 'modules/nsg-role.bicep' = {
  name: 'portcullis-nsg-role-${token}'
  params: {
    roleName: roleName
    displayName: 'Portcullis NSG operator (${environmentName})'
    assignableScopes: union([
      subscription().id
    ], map(subscriptionIds, id => '/subscriptions/${id}'))
    allowApplicationSecurityGroups: allowApplicationSecurityGroups
  }
}

module nsgRoleOnSubscriptions 'modules/nsg-role-on-subscription.bicep' = [for id in managedSubscriptions: {
  name: 'portcullis-nsg-role-${token}-assignment'
  scope: subscription(id)
  params: {
    roleName: roleName
    principalId: identity.outputs.principalId
  }
  dependsOn: [
    nsgRole
  ]
}]

module nsgRoleOnGroups 'modules/nsg-role-on-group.bicep' = [for item in managedResourceGroups: {
  name: 'portcullis-nsg-role-${token}-assignment'
  scope: resourceGroup(item.subscriptionId, item.name)
  params: {
    roleName: roleName
    principalId: identity.outputs.principalId
  }
  dependsOn: [
    nsgRole
  ]
}]

output AZURE_RESOURCE_GROUP string = group.name
output PORTCULLIS_APP string = app.outputs.name
output PORTCULLIS_URL string = 'https://${app.outputs.hostName}'
output PORTCULLIS_AUDIENCE string = 'api://${clientId}'
output PORTCULLIS_IDENTITY string = identity.outputs.principalId
output SERVICEBUS_NAMESPACE string = serviceBus.outputs.fullyQualifiedNamespace
output TABLES_ACCOUNT string = tables.outputs.name
