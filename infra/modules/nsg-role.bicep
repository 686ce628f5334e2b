// What the app may do to machines and networks, and nothing else. A test holds
// the list against every call the code makes.

targetScope = 'subscription'

@description('A GUID: the name of the role.')
param roleName string
param displayName string
param assignableScopes array

@description('Also allow NSGs whose rules name application security groups to be written: Azure asks for this right on such a write.')
param allowApplicationSecurityGroups bool

var rights = loadJsonContent('../nsg-role.json')

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: roleName
  properties: {
    roleName: displayName
    description: 'Portcullis: read machines and their networks, write rules of network security groups.'
    type: 'CustomRole'
    assignableScopes: assignableScopes
    permissions: [
      {
        actions: allowApplicationSecurityGroups ? concat(rights.actions, rights.applicationSecurityGroupActions) : rights.actions
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
  }
}

output id string = role.id
