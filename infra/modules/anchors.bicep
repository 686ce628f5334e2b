// Where the heads of the audit's chains are anchored: an account apart from the
// record, so that whoever may write the record cannot touch what it is held
// against. Blobs are written once; the policy keeps them from being changed or
// deleted. It proves something only once it is locked, which is a decision of its
// own and cannot be taken back: see docs/audit.md.

param name string
param location string
param tags object
param sku string
param closed bool
param principalId string

@description('How long an anchor can be neither changed nor deleted.')
param retentionInDays int

// Storage Blob Data Contributor, on the one container.
var contributorRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: closed ? 'Deny' : 'Allow'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
}

resource anchors 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'anchors'
}

resource policy 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-05-01' = {
  parent: anchors
  name: 'default'
  properties: {
    immutabilityPeriodSinceCreationInDays: retentionInDays
    allowProtectedAppendWrites: false
  }
}

resource contributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(anchors.id, principalId, contributorRole)
  scope: anchors
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: contributorRole
  }
}

output id string = account.id
output url string = '${account.properties.primaryEndpoints.blob}${anchors.name}'
